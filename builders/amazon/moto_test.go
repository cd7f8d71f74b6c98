package amazon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders/builderstest"
)

var testRegions = []string{"eu-west-1", "us-east-1", "us-west-2"}

// startMoto starts moto, which knows EC2 from others than us, and returns its
// URL. It is where `make deps` puts it, or where MOTO_SERVER says.
func startMoto(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("moto takes seconds to start")
	}
	server := os.Getenv("MOTO_SERVER")
	if server == "" {
		server = filepath.Join("..", "..", ".cache", "moto", "bin", "moto_server")
	}
	if _, err := os.Stat(server); err != nil {
		t.Skipf("moto is not installed (make deps installs it): %v", err)
	}
	port := freePort(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "moto.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	cmd.Stdout, cmd.Stderr = log, log
	// One image to start from: with its usual hundreds each question takes long.
	cmd.Env = append(os.Environ(), "MOTO_AMIS_PATH="+filepath.Join("testdata", "moto-amis.json"))
	// It must not outlive a test that is killed. The signal is tied to the thread
	// that starts it, so this test keeps its thread.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("moto said, at last:\n%s", text[max(0, len(text)-4000):])
			}
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if resp, err := http.Get(url + "/moto-api/"); err == nil {
			resp.Body.Close()
			return url
		}
		select {
		case <-done:
			t.Fatalf("moto has ended: %v", cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("moto does not answer")
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// endpoint points the SDK at url for all services.
func endpoint(url string, more ...func(*aws.Config)) Config {
	return Config{
		Options: append(more, func(c *aws.Config) { c.BaseEndpoint = aws.String(url) }),
		Getenv:  func(string) string { return "" },
	}
}

// client returns an EC2 client of the test's own.
func client(t *testing.T, url, region string) *ec2.Client {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(region), config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("test", "test", "")))
	if err != nil {
		t.Fatal(err)
	}
	cfg.BaseEndpoint = aws.String(url)
	return ec2.NewFromConfig(cfg)
}

// left lists what carries the build's tag in all regions.
func left(t *testing.T, url string) func(context.Context, bakehouse.BuildID) ([]builderstest.Thing, error) {
	clients := map[string]*ec2.Client{}
	for _, r := range testRegions {
		clients[r] = client(t, url, r)
	}
	return func(ctx context.Context, id bakehouse.BuildID) ([]builderstest.Thing, error) {
		var out []builderstest.Thing
		by := []types.Filter{{Name: aws.String("tag:" + bakehouse.TagBuild), Values: []string{string(id)}}}
		for region, c := range clients {
			add := func(kind string, id *string) {
				out = append(out, builderstest.Thing{Region: region, Kind: kind, ID: aws.ToString(id)})
			}
			if err := list(ctx, c, by, add); err != nil {
				return nil, fmt.Errorf("list what is left in %s: %w", region, err)
			}
		}
		return out, nil
	}
}

func list(ctx context.Context, c *ec2.Client, by []types.Filter, add func(string, *string)) error {
	instances, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: by})
	if err != nil {
		return err
	}
	for _, r := range instances.Reservations {
		for _, i := range r.Instances {
			if i.State.Name != types.InstanceStateNameTerminated {
				add("instance", i.InstanceId)
			}
		}
	}
	images, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: by})
	if err != nil {
		return err
	}
	for _, i := range images.Images {
		add("image", i.ImageId)
	}
	snaps, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: by})
	if err != nil {
		return err
	}
	for _, s := range snaps.Snapshots {
		add("snapshot", s.SnapshotId)
	}
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: by})
	if err != nil {
		return err
	}
	for _, v := range volumes.Volumes {
		add("volume", v.VolumeId)
	}
	groups, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: by})
	if err != nil {
		return err
	}
	for _, g := range groups.SecurityGroups {
		add("security group", g.GroupId)
	}
	keys, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: by})
	if err != nil {
		return err
	}
	for _, k := range keys.KeyPairs {
		add("key pair", k.KeyName)
	}
	return nil
}

// motoGaps makes up for what moto 5.2 does not have: client tokens, and of
// CreateImage and CopyImage tags of snapshots, tags of copies, and that a name
// is given once. All else reaches moto as the builder sends it.
type motoGaps struct {
	t    *testing.T
	url  string
	send aws.HTTPClient
	mu   *sync.Mutex
	made map[string]string // token → image
}

func (g *motoGaps) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	action := form.Get("Action")
	if action == "RunInstances" {
		return g.runOnce(req, body, form.Get("ClientToken"))
	}
	if action != "CreateImage" && action != "CopyImage" {
		req.Body = io.NopCloser(bytes.NewReader(body))
		return g.send.Do(req)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	region := strings.Split(req.Header.Get("Authorization"), "/")[2]
	c := client(g.t, g.url, region)
	key := region + form.Get("ClientToken")
	id := g.made[key]
	if id == "" || action == "CreateImage" {
		if id, err = g.make(req.Context(), c, action, form); err != nil {
			return nil, err
		}
		if id == "" {
			return reply(400, "<Response><Errors><Error><Code>InvalidAMIName.Duplicate</Code><Message>taken</Message></Error></Errors></Response>"), nil
		}
		g.made[key] = id
	}
	return reply(200, fmt.Sprintf("<%sResponse><imageId>%s</imageId></%[1]sResponse>", action, id)), nil
}

// runOnce answers the same to the same token.
func (g *motoGaps) runOnce(req *http.Request, body []byte, token string) (*http.Response, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made[token] == "" {
		req.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := g.send.Do(req)
		if err != nil || resp.StatusCode != 200 {
			return resp, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		g.made[token] = string(text)
	}
	return reply(200, g.made[token]), nil
}

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// make makes the image by moto, without what moto does not take, and adds that.
// It returns "" when the name is taken.
func (g *motoGaps) make(ctx context.Context, c *ec2.Client, action string, form url.Values) (string, error) {
	same, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{filter("name", form.Get("Name"))},
	})
	if err != nil || len(same.Images) > 0 {
		return "", err
	}
	var id *string
	if action == "CreateImage" {
		out, err := c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: aws.String(form.Get("InstanceId")), Name: aws.String(form.Get("Name"))})
		if err != nil {
			return "", err
		}
		id = out.ImageId
	} else {
		out, err := c.CopyImage(ctx, &ec2.CopyImageInput{
			SourceImageId: aws.String(form.Get("SourceImageId")), SourceRegion: aws.String(form.Get("SourceRegion")), Name: aws.String(form.Get("Name")),
		})
		if err != nil {
			return "", err
		}
		id = out.ImageId
	}
	there, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{*id}})
	if err != nil {
		return "", err
	}
	of := map[string][]string{"image": {*id}, "snapshot": snapshotsOf(there.Images[0])}
	for n := 1; form.Has(fmt.Sprintf("TagSpecification.%d.ResourceType", n)); n++ {
		var tags []types.Tag
		for k := 1; form.Has(fmt.Sprintf("TagSpecification.%d.Tag.%d.Key", n, k)); k++ {
			tags = append(tags, types.Tag{
				Key:   aws.String(form.Get(fmt.Sprintf("TagSpecification.%d.Tag.%d.Key", n, k))),
				Value: aws.String(form.Get(fmt.Sprintf("TagSpecification.%d.Tag.%d.Value", n, k))),
			})
		}
		in := &ec2.CreateTagsInput{Resources: of[form.Get(fmt.Sprintf("TagSpecification.%d.ResourceType", n))], Tags: tags}
		if _, err := c.CreateTags(ctx, in); err != nil {
			return "", err
		}
	}
	return *id, nil
}

// The suite against moto. What moto lacks it cannot witness: deprecation,
// deregistration protection, fast launch.
func TestMoto(t *testing.T) {
	url := startMoto(t)
	source := "ami-00000000000000001" // of testdata/moto-amis.json
	var mu sync.Mutex
	made := map[string]string{}
	agent := func(t *testing.T) builderstest.Platform {
		return NewEBS(endpoint(url, func(c *aws.Config) { c.HTTPClient = &motoGaps{t, url, c.HTTPClient, &mu, made} }))
	}
	settings := func(name string) map[string]any {
		return map[string]any{
			"access_key": "test", "secret_key": "test", "region": "us-east-1", "max_retries": 2,
			"ami_name": name, "source_ami": source, "instance_type": "t3.micro", "ssh_username": "admin",
			"ami_regions":     []string{"us-west-2", "eu-west-1", "us-west-2"},
			"tags":            map[string]string{"from": "{{ .SourceAMI }}"},
			"snapshot_tags":   map[string]string{"kind": "snapshot"},
			"run_tags":        map[string]string{"purpose": "suite"},
			"ami_description": "made from {{ .SourceAMI }}",
			"ami_users":       []string{"123456789012"},
		}
	}
	builderstest.Run(t, builderstest.Subject{Agent: agent, Settings: settings, Left: left(t, url)})
}
