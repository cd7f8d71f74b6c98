package amazon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/builders/builderstest"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

func TestMain(m *testing.M) { localcloudtest.Main(m) }

// localSettings are settings for a build on localcloud, from whatever base
// image it has.
func localSettings(t *testing.T, c *localcloudtest.Cloud, more map[string]any) func(string) map[string]any {
	t.Helper()
	out, err := ec2.NewFromConfig(c.Config("us-east-1")).DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Filters: []types.Filter{filter("root-device-type", "ebs")},
	})
	if err != nil || len(out.Images) == 0 {
		t.Fatalf("localcloud has no image to start from: %v", err)
	}
	return func(name string) map[string]any {
		s := settingsFor(name)
		s["source_ami"] = aws.ToString(out.Images[0].ImageId)
		s["access_key"], s["secret_key"] = "test", "test"
		maps.Copy(s, more)
		return s
	}
}

// The suite against localcloud, whose instances run nothing here: in each way
// to make an image.
func TestLocalcloud(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"encrypted": {"encrypt_boot": true},
		"full": {
			"deregistration_protection": map[string]any{"enabled": true}, "deprecate_at": time.Now().AddDate(1, 0, 0).Format(time.RFC3339),
			"ami_users": []string{"123456789012"}, "snapshot_users": []string{"123456789012"}, "imds_support": "v2.0",
			"ena_support": true, "associate_public_ip_address": true, "user_data": "#!/bin/sh\n",
			"launch_block_device_mappings": []map[string]any{{"device_name": "/dev/xvda", "volume_size": 12, "volume_type": "gp3"}},
			"skip_ami_run_tags":            true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake()})
			builderstest.Run(t, builderstest.Subject{
				Agent:    func(*testing.T) builderstest.Platform { return NewEBS(endpoint(c.URL)) },
				Settings: localSettings(t, c, more),
				Left:     left(t, c.URL),
			})
		})
	}
}

// The suite against localcloud with instances that really boot.
func TestLocalcloudBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	c := localcloudtest.Start(t)
	builderstest.Run(t, builderstest.Subject{
		Agent:    func(*testing.T) builderstest.Platform { return NewEBS(endpoint(c.URL)) },
		Settings: localSettings(t, c, map[string]any{"run_tags": map[string]string{"a": "b"}, "snapshot_tags": map[string]string{"c": "d"}}),
		Left:     left(t, c.URL),
	})
}

// A deaf caller performs each action once without hearing the answer.
type deaf struct {
	mu     sync.Mutex
	action string
	heard  int
}

func (d *deaf) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		d.mu.Lock()
		lose := form.Get("Action") == d.action && d.heard == 0
		if lose {
			d.heard++
		}
		d.mu.Unlock()
		if !lose {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // the connection breaks
	})
}

// On the wire, too, what took effect without an answer is found again: here by
// the SDK, which sends the request once more.
func TestLostOnTheWire(t *testing.T) {
	d := &deaf{}
	c := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Wrap: d.wrap})
	settings := localSettings(t, c, nil)
	for _, action := range []string{
		"ImportKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "StopInstances", "CreateImage", "CopyImage",
		"CreateTags", "DeleteTags", "DeregisterImage", "DeleteSnapshot", "TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair",
	} {
		t.Run(action, func(t *testing.T) {
			d.mu.Lock()
			d.action, d.heard = action, 0
			d.mu.Unlock()
			raw, err := json.Marshal(settings("web-" + action))
			if err != nil {
				t.Fatal(err)
			}
			b := bakehouse.Build{ID: bakehouse.BuildID("wire-" + action), Name: "amazon-ebs.web", Settings: raw}
			images := wholeLife(t, NewEBS(endpoint(c.URL)), b)
			if err := NewEBS(endpoint(c.URL)).Release(t.Context(), b, builders.Resolved{}, builders.Holding{}); err != nil {
				t.Fatal(err)
			}
			if things, err := left(t, c.URL)(t.Context(), b.ID); err != nil || len(things) > 0 {
				t.Errorf("left %v, %v", things, err)
			}
			if d.heard != 1 {
				t.Errorf("%s was not asked for", action)
			}
			if len(images) != 3 {
				t.Errorf("images %v, want 3", images)
			}
		})
	}
}

// wholeLife takes all steps and returns the images, with nothing else left.
func wholeLife(t *testing.T, e *EBS, b bakehouse.Build) []builders.Image {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := e.Resolve(ctx, b)
	must(err)
	must(e.KeyPair(ctx, b, r, testKey(t, 'k')))
	m := launched(t, e, b, r)
	must(e.Stop(ctx, b, r, m))
	img, _, err := e.Capture(ctx, b, r, m)
	must(err)
	img, err = e.AwaitImage(ctx, b, img)
	must(err)
	images := []builders.Image{img}
	for _, region := range r.CopyRegions {
		copied, err := e.Copy(ctx, b, r, img, region)
		must(err)
		copied, err = e.AwaitImage(context.WithoutCancel(ctx), b, copied)
		must(err)
		images = append(images, copied)
	}
	for _, i := range images {
		must(e.Finish(ctx, b, r, i))
	}
	must(e.Release(ctx, b, r, builders.Holding{Keep: images}))
	return images
}
