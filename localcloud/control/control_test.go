package control_test

import (
	"archive/tar"
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

func TestMain(m *testing.M) { localcloudtest.Main(m) }

func start(t *testing.T) (control.Client, *localcloudtest.Cloud) {
	t.Helper()
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake()})
	l, err := control.Listen(cloud.Dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: control.Handler(cloud.Cloud, slog.New(slog.NewTextHandler(t.Output(), nil)))}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return control.Client{Dir: cloud.Dir}, cloud
}

func tarball(t *testing.T) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "/imported", Mode: 0o644, Size: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("yes")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// launch starts an instance from the image of a name and waits until it runs.
func launch(t *testing.T, c control.Client, cloud *localcloudtest.Cloud, name string) string {
	t.Helper()
	api := ec2.NewFromConfig(cloud.Config("us-east-1"))
	images, err := api.DescribeImages(t.Context(), &ec2.DescribeImagesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images.Images {
		if *i.Name != name {
			continue
		}
		out, err := api.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: i.ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
		if err != nil {
			t.Fatal(err)
		}
		id := *out.Instances[0].InstanceId
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			list, err := c.Instances(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 1 && list[0].State == state.Running {
				return id
			}
		}
	}
	t.Fatalf("no instance of %s runs", name)
	return ""
}

func TestImages(t *testing.T) {
	c, cloud := start(t)
	ctx := t.Context()
	if err := c.Import(ctx, "base", "", tarball(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Import(ctx, "base", "", tarball(t)); err == nil || !strings.Contains(err.Error(), "rm base") {
		t.Errorf("imported twice: %v", err)
	}
	launch(t, c, cloud, "base")
	list, err := c.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var base state.Image
	for _, i := range list {
		if i.Name == "base" && i.Region == "us-east-1" {
			base = i
		}
	}
	var out bytes.Buffer
	if err := c.Export(ctx, base.ID, &out); err != nil {
		t.Fatal(err)
	}
	if h, err := tar.NewReader(&out).Next(); err != nil || h.Name != "/imported" {
		t.Errorf("exported %v, %v", h, err)
	}
	if err := c.Export(ctx, "ami-0123456789abcdef0", &out); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("exported what is not there: %v", err)
	}
	if err := c.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Instances(ctx); err != nil || len(list) != 0 {
		t.Errorf("after reset: %v, %v", list, err)
	}
	if err := c.Remove(ctx, "base"); err != nil {
		t.Fatal(err)
	}
}

// A shell carries input, both outputs and the exit status.
func TestShell(t *testing.T) {
	c, cloud := start(t)
	i := launch(t, c, cloud, "localcloud/host-root")
	for _, tt := range []struct {
		name, line, in, size string
		out, err             string
		status               int
	}{
		{"pipes", "cat; echo oops >&2; exit 3", "hello", "", "hello", "oops\n", 3},
		{"much", "cat", strings.Repeat("0123456789", 100_000), "", strings.Repeat("0123456789", 100_000), "", 0},
		{"terminal", "test -t 0 && stty size", "", "33 99", "33 99\r\n", "", 0},
		{"killed", "kill -9 $$", "", "", "", "", 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			status, err := c.Shell(t.Context(), i, []string{"/bin/sh", "-c", tt.line}, control.Terminal{
				In: strings.NewReader(tt.in), Out: &out, Err: &errs, Size: tt.size,
			})
			if err != nil || status != tt.status || out.String() != tt.out || errs.String() != tt.err {
				t.Errorf("status %d, %v, %.100q, %.100q", status, err, out.String(), errs.String())
			}
		})
	}
	if _, err := c.Shell(t.Context(), "i-0123456789abcdef0", []string{"true"}, control.Terminal{In: strings.NewReader("")}); err == nil || !strings.Contains(err.Error(), "no instance") {
		t.Errorf("shell in no instance: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	if _, err := (control.Client{Dir: t.TempDir()}).Images(t.Context()); err == nil || !strings.Contains(err.Error(), "localcloud serve") {
		t.Errorf("got %v", err)
	}
}

// What a laboratory does and asks goes over the socket and back.
func TestLaboratory(t *testing.T) {
	c, cloud := start(t)
	ctx := t.Context()
	rule, err := c.AddFault(ctx, faults.Rule{Kind: faults.Throttle, Actions: []string{"CreateSecurityGroup"}, Count: 1, Probability: 0.999, Seed: 5, Until: time.Now().Add(time.Hour).UTC()})
	if err != nil || rule.ID == "" || rule.Code != "RequestLimitExceeded" {
		t.Fatalf("%+v, %v", rule, err)
	}
	if _, err := c.AddFault(ctx, faults.Rule{Kind: "rain"}); err == nil || !strings.Contains(err.Error(), "no kind") {
		t.Errorf("nonsense: %v", err)
	}
	api := ec2.NewFromConfig(cloud.Config("us-east-1"))
	create := func() error {
		_, err := api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")})
		return err
	}
	if err := create(); err == nil {
		t.Error("not throttled")
	}
	list, err := c.Faults(ctx)
	if err != nil || len(list) != 1 || list[0].Hits != 1 || list[0].Seen != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.RemoveFault(ctx, rule.ID); err != nil {
		t.Error(err)
	}
	if err := c.RemoveFault(ctx, rule.ID); err == nil || !strings.Contains(err.Error(), "no such rule") {
		t.Errorf("removed twice: %v", err)
	}
	if err := create(); err != nil {
		t.Error(err)
	}
	entries, err := c.Record(ctx, record.Filter{Action: "CreateSecurityGroup"})
	if err != nil || len(entries) != 2 || entries[0].Faults[0].Rule != rule.ID || len(entries[1].Changes) != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
	if none, err := c.Record(ctx, record.Filter{Action: "Nothing"}); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
	found, err := c.Census(ctx, localcloud.Search{})
	if err != nil || len(found) != 1 || found[0].Name != "g" || len(found[0].History) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	i := launch(t, c, cloud, "localcloud/host-root")
	if ids, err := c.Break(ctx, localcloud.MachineFault{Act: localcloud.Terminate, Instances: []string{i}}); err != nil || len(ids) != 1 || ids[0] != i {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := c.Break(ctx, localcloud.MachineFault{Act: localcloud.Terminate}); err == nil || !strings.Contains(err.Error(), "which one") {
		t.Errorf("all machines: %v", err)
	}
}
