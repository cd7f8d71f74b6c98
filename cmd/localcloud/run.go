package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"
)

// boot launches an instance from an AMI as any client would, over the EC2 API,
// runs a command in it over SSH with a key made for this, and terminates it. It
// returns the command's exit status.
func boot(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	f, _ := flags("run", "AMI [--] COMMAND...", errw)
	endpoint := f.String("endpoint", cmp.Or(os.Getenv("AWS_ENDPOINT_URL_EC2"), os.Getenv("AWS_ENDPOINT_URL"), "http://127.0.0.1:4566"), "where localcloud listens ($AWS_ENDPOINT_URL)")
	region := f.String("region", cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"), "region of the AMI ($AWS_REGION)")
	user := f.String("user", "ubuntu", "who to log in as")
	if err := f.Parse(args); err != nil {
		return 1
	}
	command := f.Args()
	if len(command) > 1 && command[1] == "--" {
		command = append(command[:1], command[2:]...)
	}
	if len(command) < 2 {
		f.Usage()
		return 1
	}
	if !strings.Contains(*endpoint, "://") {
		*endpoint = "http://" + *endpoint
	}
	b := &booted{user: *user, api: ec2.NewFromConfig(aws.Config{
		Region: *region, BaseEndpoint: endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})}
	status, err := b.run(ctx, command[0], strings.Join(command[1:], " "), in, out, errw)
	if err != nil {
		fmt.Fprintf(errw, "localcloud: run: %v\n", err)
		return 1
	}
	return status
}

// A booted is an instance that lives for one command.
type booted struct {
	api  *ec2.Client
	user string
}

func (b *booted) run(ctx context.Context, ami, line string, in io.Reader, out, errw io.Writer) (status int, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return 0, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return 0, err
	}
	suffix := make([]byte, 6)
	if _, err := rand.Read(suffix); err != nil {
		return 0, err
	}
	name := "localcloud-run-" + hex.EncodeToString(suffix)
	if _, err := b.api.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: &name, PublicKeyMaterial: ssh.MarshalAuthorizedKey(key)}); err != nil {
		return 0, err
	}
	// An interrupted run must not leave an instance behind.
	clean := context.WithoutCancel(ctx)
	defer func() {
		_, e := b.api.DeleteKeyPair(clean, &ec2.DeleteKeyPairInput{KeyName: &name})
		err = errors.Join(err, e)
	}()
	launched, err := b.api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, KeyName: &name,
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ClientToken: &name,
	})
	if err != nil {
		return 0, err
	}
	id := *launched.Instances[0].InstanceId
	defer func() {
		err = errors.Join(err, b.terminate(clean, id))
	}()
	addr, err := b.address(ctx, id)
	if err != nil {
		return 0, err
	}
	return b.login(ctx, addr, signer, line, in, out, errw)
}

// address waits until the instance runs.
func (b *booted) address(ctx context.Context, id string) (string, error) {
	for {
		got, err := b.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err != nil {
			return "", err
		}
		i := got.Reservations[0].Instances[0]
		switch i.State.Name {
		case types.InstanceStateNameRunning:
			return *i.PublicIpAddress, nil
		case types.InstanceStateNamePending:
		default:
			return "", fmt.Errorf("instance %s is %s: %s", id, i.State.Name, aws.ToString(i.StateTransitionReason))
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// terminate ends the instance and waits for it, so that nothing of it is left
// when the command returns.
func (b *booted) terminate(ctx context.Context, id string) error {
	if _, err := b.api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		return err
	}
	return ec2.NewInstanceTerminatedWaiter(b.api, func(o *ec2.InstanceTerminatedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, 2*time.Minute)
}

// login runs line over SSH. The host key is that of an instance made a moment
// ago on this machine: there is nothing to compare it with.
func (b *booted) login(ctx context.Context, addr string, signer ssh.Signer, line string, in io.Reader, out, errw io.Writer) (int, error) {
	config := &ssh.ClientConfig{
		User: b.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
	}
	var client *ssh.Client
	for deadline := time.Now().Add(time.Minute); ; {
		var err error
		if client, err = ssh.Dial("tcp", net.JoinHostPort(addr, "22"), config); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("log in to %s as %s: %w", addr, b.user, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return 0, err
	}
	session.Stdin, session.Stdout, session.Stderr = in, out, errw
	err = session.Run(line)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus(), nil
	}
	return 0, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
