package localcloud_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// A mortal is a host under which the cloud dies at the nth change, just before
// or just after it is made: the call never returns.
type mortal struct {
	*localcloudtest.Fake
	mu    sync.Mutex
	left  int
	after bool
	dying chan struct{}
}

func (m *mortal) change(ctx context.Context, f func() error) error {
	m.mu.Lock()
	m.left--
	last := m.left == 0
	m.mu.Unlock()
	if !last {
		return f()
	}
	if m.after {
		_ = f() // nobody will hear of it
	}
	close(m.dying)
	<-ctx.Done()
	return ctx.Err()
}

func (m *mortal) Start(ctx context.Context, s sandbox.Spec) error {
	return m.change(ctx, func() error { return m.Fake.Start(ctx, s) })
}

func (m *mortal) Stop(ctx context.Context, id string) error {
	return m.change(ctx, func() error { return m.Fake.Stop(ctx, id) })
}

func (m *mortal) Remove(ctx context.Context, id string) error {
	return m.change(ctx, func() error { return m.Fake.Remove(ctx, id) })
}

func (m *mortal) Freeze(ctx context.Context, id, layer string) error {
	return m.change(ctx, func() error { return m.Fake.Freeze(ctx, id, layer) })
}

// Wherever localcloud dies, the next one brings what was promised to its end.
func TestRestart(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			died := false
			t.Run(fmt.Sprintf("change %d, made %v", n, after), func(t *testing.T) { died = liveAndDie(t, n, after) })
			if t.Failed() || !died {
				if n < 7 {
					t.Errorf("the story has only %d changes", n-1)
				}
				break
			}
		}
	}
}

func liveAndDie(t *testing.T, n int, after bool) (died bool) {
	host := &mortal{Fake: localcloudtest.NewFake(), left: n, after: after, dying: make(chan struct{})}
	dir := t.TempDir()
	var cloud *localcloud.Cloud
	var server *httptest.Server
	var c *ec2.Client
	open := func() {
		var err error
		cloud, err = localcloud.New(localcloud.Config{Dir: dir, Host: host, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		server = httptest.NewServer(cloud)
		c = ec2.NewFromConfig(localcloudtest.Config(server.URL, region))
	}
	closeAll := func() {
		server.Close()
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	}
	open()
	defer func() { closeAll() }()
	// until polls, and replaces a cloud that has died.
	until := func(what string, done func() bool) {
		t.Helper()
		eventually(t, what, func() bool {
			select {
			case <-host.dying:
				if !died {
					died = true
					closeAll()
					open()
				}
			default:
			}
			return done()
		})
	}
	ctx := t.Context()
	keep := must[*ec2.RunInstancesOutput](t)(c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ubuntu(t, c)), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))
	i := *keep.Instances[0].InstanceId
	until("running", func() bool { return instance(t, c, i).State.Name == "running" })
	host.Write(i, "/baked", "yes")
	img := *must[*ec2.CreateImageOutput](t)(c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &i, Name: aws.String("web")})).ImageId
	until("restarted", func() bool {
		s, _ := host.Status(i)
		return s.State == sandbox.Running && s.Boots >= 2 && instance(t, c, i).State.Name == "running"
	})
	must[*ec2.StopInstancesOutput](t)(c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{i}}))
	until("stopped", func() bool { return instance(t, c, i).State.Name == "stopped" })
	// Asked for together: the image holds what was there when it was asked for.
	second := *must[*ec2.CreateImageOutput](t)(c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &i, Name: aws.String("web 2")})).ImageId
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	until("terminated", func() bool { return instance(t, c, i).State.Name == "terminated" })
	for _, img := range []string{img, second} {
		until("available", func() bool { return image(t, c, img).State == "available" })
		n := *must[*ec2.RunInstancesOutput](t)(c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: &img, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})).Instances[0].InstanceId
		until("launched from "+img, func() bool { return instance(t, c, n).State.Name == "running" })
		if got := host.Read(n, "/baked"); got != "yes" {
			t.Errorf("/baked of an instance of %s is %q", img, got)
		}
	}
	if s, _ := host.Status(i); s.State != sandbox.Gone {
		t.Errorf("the terminated instance is %s", s.State)
	}
	return died
}

// Half a delay before a restart and half of it after are one delay.
func TestDelayOverRestart(t *testing.T) {
	fake, dir := localcloudtest.NewFake(), t.TempDir()
	began := time.Now()
	var i string
	for n := range 2 {
		cloud, err := localcloud.New(localcloud.Config{Dir: dir, Host: fake, Delays: 0.05})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(cloud)
		c := ec2.NewFromConfig(localcloudtest.Config(server.URL, region))
		if n == 0 {
			i = *must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ubuntu(t, c)), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})).Instances[0].InstanceId
			time.Sleep(400 * time.Millisecond)
		} else {
			reopened := time.Now()
			await(t, c, i, "running")
			if all, second := time.Since(began), time.Since(reopened); all < 800*time.Millisecond || second > 790*time.Millisecond && all > 1190*time.Millisecond && all-second < 500*time.Millisecond {
				t.Errorf("running %v after the launch, %v after the restart: the delay is 800ms", all, second)
			}
		}
		server.Close()
		if err := cloud.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// One state folder has one localcloud.
func TestStateInUse(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake()})
	_, err := localcloud.New(localcloud.Config{Dir: cloud.Dir, Host: localcloudtest.NewFake()})
	if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v, want an error that names the process", err)
	}
}

// An imported file system can be launched everywhere, stands in for what it is
// called like, and comes out as it went in.
func TestImport(t *testing.T) {
	fake := localcloudtest.NewFake()
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: fake})
	c := ec2.NewFromConfig(cloud.Config(region))
	ctx := t.Context()
	tarball := func() io.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "/imported", Mode: 0o644, Size: 3}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte("yes"))
		_ = w.Close()
		return &b
	}
	before := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, &ec2.DescribeImagesInput{})) // the region is set up
	const name = "ubuntu-jammy-22.04-amd64-server-20240101"
	if err := cloud.Import(ctx, name, "", tarball()); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Import(ctx, name, "", tarball()); err == nil {
		t.Error("imported twice under one name")
	}
	if err := cloud.Import(ctx, "other", "somebody", tarball()); err == nil {
		t.Error("imported for an owner that is no account")
	}
	for _, r := range []string{region, "eu-west-1"} {
		c := in(c, r)
		got := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters("name", name)})).Images
		if len(got) != 1 {
			t.Fatalf("%s: %d images of that name (%d before)", r, len(got), len(before.Images))
		}
		if i := launch(t, c, *got[0].ImageId); fake.Read(i, "/imported") != "yes" {
			t.Errorf("%s: not what was imported", r)
		}
	}
	stand := ubuntu(t, c)
	i := launch(t, c, stand)
	if fake.Read(i, "/imported") != "yes" {
		t.Errorf("the host stands in, though there is an imported image of the name")
	}
	fake.Write(i, "/baked", "yes")
	stop(t, c, i)
	img := bake(t, c, i, "web")
	var out bytes.Buffer
	if err := cloud.Export(ctx, *img.ImageId, &out); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "/baked /imported" {
		t.Errorf("exported are %s", got)
	}
	if err := cloud.Forget(name); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Forget(name); err == nil {
		t.Error("forgotten twice")
	}
	if i := launch(t, c, *img.ImageId); fake.Read(i, "/imported") != "yes" {
		t.Error("an image lost the layer below it when the import was forgotten")
	}
}
