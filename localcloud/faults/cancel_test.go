package faults_test

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/builders/amazon"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

// A build that is cancelled just after it has made something releases that,
// although Describe does not show it yet.
func TestCancelledBeforeItIsSeen(t *testing.T) {
	for _, rule := range []faults.Rule{
		{Kind: faults.Unseen, Delay: 2 * time.Second},
		{Kind: faults.Stale, Delay: 2 * time.Second},
	} {
		for _, upTo := range []int{1, 2, 3, 4} {
			t.Run(fmt.Sprintf("%s after %d", rule.Kind, upTo), func(t *testing.T) {
				t.Parallel()
				cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Log: slog.New(slog.DiscardHandler)})
				b := newBake(t, cloud)
				ctx := t.Context()
				e := amazon.NewEBS(amazon.Config{Options: []func(*aws.Config){func(c *aws.Config) { c.BaseEndpoint = aws.String(cloud.URL) }}, Getenv: func(string) string { return "" }})
				r, err := e.Resolve(ctx, b.build)
				if err != nil {
					t.Fatal(err)
				}
				add(t, cloud.Faults(), rule)
				key, _ := ssh.NewPublicKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))).Public())
				var groups []string
				var m builders.Machine
				var errs []error
				if upTo >= 1 {
					errs = append(errs, e.KeyPair(ctx, b.build, r, string(ssh.MarshalAuthorizedKey(key))))
				}
				var made []string
				if upTo >= 2 {
					groups, err = e.SecurityGroup(ctx, b.build, r)
					errs = append(errs, err)
					made = append(made, groups...)
				}
				if upTo >= 3 {
					m, err = e.Launch(ctx, b.build, r, groups)
					errs = append(errs, err)
					made = append(made, m.ID)
				}
				if upTo >= 4 {
					time.Sleep(2100 * time.Millisecond)
					_, _ = e.Await(ctx, b.build, m)
					errs = append(errs, e.Stop(ctx, b.build, r, m))
					var img builders.Image
					img, _, err = e.Capture(ctx, b.build, r, m)
					errs = append(errs, err)
					made = append(made, img.ID)
				}
				err = b.insist(ctx, "release", func(e *amazon.EBS) error { return e.Release(ctx, b.build, r, builders.Holding{Made: made}) })
				for _, err := range append(errs, err) {
					if err != nil {
						t.Error(err)
					}
				}
				left(t, b, nil)
			})
		}
	}
}
