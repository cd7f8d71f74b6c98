package localcloud_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

// login logs in to an instance by SSH as soon as it lets us.
func login(t testing.TB, addr, user, key string) *ssh.Client {
	t.Helper()
	s, err := ssh.ParsePrivateKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(s)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 5 * time.Second,
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := dial(net.JoinHostPort(addr, "22"), conf)
		if err == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("no login at %s: %v", addr, err)
		}
	}
}

// dial is ssh.Dial with a limit for all of it, and to this machine only: without
// a route of its own, the address is no instance's, and not ours to call.
func dial(addr string, conf *ssh.ClientConfig) (*ssh.Client, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	_, host, err := net.ParseCIDR(ap.Addr().String() + "/32")
	if err != nil {
		return nil, err
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: host}, netlink.RT_FILTER_DST)
	if err != nil {
		return nil, err
	}
	if len(routes) == 0 {
		return nil, errors.New("no route")
	}
	conn, err := net.DialTimeout("tcp", addr, conf.Timeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(conf.Timeout)); err != nil {
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, conf)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), conn.SetDeadline(time.Time{})
}

func say(t testing.TB, c *ssh.Client, line string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(line)
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Real instances: a login by key pair, an image with what was written, booted
// in another region.
func TestInstances(t *testing.T) {
	cloud := localcloudtest.Start(t)
	c := ec2.NewFromConfig(cloud.Config(region))
	ctx := t.Context()
	for _, kind := range []types.KeyType{types.KeyTypeRsa, types.KeyTypeEd25519} {
		t.Run(string(kind), func(t *testing.T) {
			key := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String(string(kind)), KeyType: kind}))
			withKey := func(in *ec2.RunInstancesInput) { in.KeyName = key.KeyName }
			i := launch(t, c, ubuntu(t, c), withKey)
			shell := login(t, *instance(t, c, i).PublicIpAddress, "ubuntu", *key.KeyMaterial)
			defer shell.Close()
			if got := say(t, shell, "id -un; sudo id -un; hostname"); got != "ubuntu\nroot\nip-"+strings.ReplaceAll(*instance(t, c, i).PublicIpAddress, ".", "-") {
				t.Errorf("user, sudo and host name: %q", got)
			}
			say(t, shell, "echo baked | sudo tee /srv/mark; sudo rm -rf /etc/skel")
			img := bake(t, c, i, "web-"+string(kind)) // which restarts it
			shell = login(t, *instance(t, c, i).PublicIpAddress, "ubuntu", *key.KeyMaterial)
			if got := say(t, shell, "cat /srv/mark"); got != "baked" {
				t.Errorf("after the restart: %q", got)
			}
			west := in(c, "us-west-2")
			must[*ec2.ImportKeyPairOutput](t)(west.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: key.KeyName, PublicKeyMaterial: publicOf(t, *key.KeyMaterial)}))
			copied := must[*ec2.CopyImageOutput](t)(west.CopyImage(ctx, &ec2.CopyImageInput{SourceRegion: aws.String(region), SourceImageId: img.ImageId, Name: img.Name}))
			awaitImage(t, west, *copied.ImageId)
			n := launch(t, west, *copied.ImageId, withKey)
			there := login(t, *instance(t, west, n).PublicIpAddress, "ec2-user", *key.KeyMaterial)
			defer there.Close()
			if got := say(t, there, "cat /srv/mark; test -e /etc/skel || echo gone"); got != "baked\ngone" {
				t.Errorf("in the copy: %q", got)
			}
			s, err := shell.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Run("sudo poweroff") // which may cut the answer off
			await(t, c, i, "stopped")
			if got := *instance(t, c, i).StateReason.Code; got != "Client.InstanceInitiatedShutdown" {
				t.Errorf("stopped because of %s", got)
			}
		})
	}
}

func publicOf(t *testing.T, private string) []byte {
	t.Helper()
	s, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(s.PublicKey())
}

// Ten at once boot and are captured.
func TestTenInstances(t *testing.T) {
	cloud := localcloudtest.Start(t)
	c := ec2.NewFromConfig(cloud.Config(region))
	ami := ubuntu(t, c)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			out, err := c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: &ami, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			if err != nil {
				t.Error(err)
				return
			}
			i := out.Instances[0].InstanceId
			state := func(want types.InstanceStateName) bool {
				for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					d, err := c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{*i}})
					if err == nil && d.Reservations[0].Instances[0].State.Name == want {
						return true
					}
				}
				t.Errorf("%s is not %s", *i, want)
				return false
			}
			if !state("running") {
				return
			}
			if _, err := c.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: i, Name: i}); err != nil {
				t.Error(err)
			}
			if _, err := c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*i}}); err != nil {
				t.Error(err)
			}
			state("terminated")
		})
	}
	all.Wait()
	eventually(t, "ten images", func() bool {
		out, err := c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters("state", "available")})
		return err == nil && len(out.Images) == 10
	})
}

// The time from asking for an instance until a login by SSH.
func BenchmarkLaunchToSSH(b *testing.B) {
	c, ami, key := benchmark(b)
	for b.Loop() {
		out, err := c.RunInstances(b.Context(), &ec2.RunInstancesInput{ImageId: &ami, KeyName: key.KeyName, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
		if err != nil {
			b.Fatal(err)
		}
		login(b, *out.Instances[0].PublicIpAddress, "ubuntu", *key.KeyMaterial).Close()
		b.StopTimer()
		end(b, c, *out.Instances[0].InstanceId)
		b.StartTimer()
	}
}

// The time from asking for an image of a stopped instance until it is available.
func BenchmarkCreateImage(b *testing.B) {
	c, ami, key := benchmark(b)
	out, err := c.RunInstances(b.Context(), &ec2.RunInstancesInput{ImageId: &ami, KeyName: key.KeyName, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	if err != nil {
		b.Fatal(err)
	}
	i := out.Instances[0]
	shell := login(b, *i.PublicIpAddress, "ubuntu", *key.KeyMaterial)
	say(b, shell, "sudo dd if=/dev/zero of=/srv/data bs=1M count=64 status=none")
	for state := types.InstanceStateName(""); state != "stopped"; {
		_, _ = c.StopInstances(b.Context(), &ec2.StopInstancesInput{InstanceIds: []string{*i.InstanceId}}) // refused until it runs
		d, err := c.DescribeInstances(b.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{*i.InstanceId}})
		if err != nil {
			b.Fatal(err)
		}
		state = d.Reservations[0].Instances[0].State.Name
	}
	for n := 0; b.Loop(); n++ {
		img, err := c.CreateImage(b.Context(), &ec2.CreateImageInput{InstanceId: i.InstanceId, Name: aws.String("web-" + time.Now().Format("150405.000000000"))})
		if err != nil {
			b.Fatal(err)
		}
		for {
			d, err := c.DescribeImages(b.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*img.ImageId}})
			if err != nil {
				b.Fatal(err)
			}
			if d.Images[0].State == types.ImageStateAvailable {
				break
			}
		}
	}
	b.StopTimer()
	end(b, c, *i.InstanceId)
}

func benchmark(b *testing.B) (*ec2.Client, string, *ec2.CreateKeyPairOutput) {
	b.Helper()
	cloud := localcloudtest.StartWith(b, localcloud.Config{})
	c := ec2.NewFromConfig(cloud.Config(region))
	images, err := c.DescribeImages(b.Context(), &ec2.DescribeImagesInput{Owners: []string{"localcloud"}})
	if err != nil {
		b.Fatal(err)
	}
	key, err := c.CreateKeyPair(b.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: types.KeyTypeEd25519})
	if err != nil {
		b.Fatal(err)
	}
	return c, *images.Images[0].ImageId, key
}

func end(b *testing.B, c *ec2.Client, id string) {
	b.Helper()
	for state := types.InstanceStateName(""); state != "terminated"; time.Sleep(5 * time.Millisecond) {
		if _, err := c.TerminateInstances(context.Background(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
			b.Fatal(err)
		}
		d, err := c.DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err != nil {
			b.Fatal(err)
		}
		state = d.Reservations[0].Instances[0].State.Name
	}
}
