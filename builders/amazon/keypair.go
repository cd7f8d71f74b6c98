package amazon

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// KeyPair imports the public key under r.KeyPair. A pair of that name which an
// earlier call made is kept when it holds this key, and replaced when it holds
// another; one that is not ours is a Conflict.
func (e *EBS) KeyPair(ctx context.Context, b bakehouse.Build, r builders.Resolved, publicKey string) error {
	if r.KeyPair == "" {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(publicKey))
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "read public key for %s: %w", r.KeyPair, err)
	}
	_, c, err := e.open(ctx, b, r.Region)
	if err != nil {
		return err
	}
	p, err := planOf(r)
	if err != nil {
		return err
	}
	say(ctx, "Creating temporary keypair: %s", r.KeyPair)
	tags := marked(b, stepKeyPair, p.RunTags)
	tags[tagKey] = ssh.FingerprintSHA256(key)
	// One that is deleted to make room may be there for another moment.
	err = settled(ctx, time.Minute, retryImport, func() error {
		return c.importKeyPair(ctx, b, r.KeyPair, publicKey, tags)
	})
	return failed(ctx, err, "create temporary key pair %s", r.KeyPair)
}

// errReplaced says that a key pair has been removed and its name is free.
type errReplaced struct{}

func (errReplaced) Error() string {
	return "a key pair of the build held another key; it has been removed"
}

func retryImport(err error) bool { _, ok := err.(errReplaced); return ok }

func (c *connection) importKeyPair(ctx context.Context, b bakehouse.Build, name, publicKey string, tags map[string]string) error {
	_, err := c.ec2.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
		KeyName:           aws.String(name),
		PublicKeyMaterial: []byte(strings.TrimSpace(publicKey)),
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeKeyPair, tags)},
	})
	if !is(err, "InvalidKeyPair.Duplicate") {
		return err
	}
	out, err := c.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{name}})
	if gone(err) || err == nil && len(out.KeyPairs) == 0 {
		return errReplaced{}
	}
	if err != nil {
		return err
	}
	switch there := out.KeyPairs[0]; {
	case !ours(b, there.Tags):
		return bakehouse.Errorf(bakehouse.Conflict, "a key pair of that name exists and was not made by this build")
	case tag(there.Tags, tagKey) == tags[tagKey]:
		return nil
	}
	if _, err := c.ec2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: aws.String(name)}); err != nil && !gone(err) {
		return err
	}
	return errReplaced{}
}
