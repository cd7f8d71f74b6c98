package localcloud_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

// packer builds a template with Packer itself, an independent client that knows
// nothing of us, and returns what it printed. Its AWS SDK is of the first
// generation, which has its endpoint from the template.
func packer(t *testing.T, cloud *localcloudtest.Cloud, name, source, build string) string {
	t.Helper()
	bin, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed (Debian: apt-get install packer)")
	}
	dir := t.TempDir()
	template := fmt.Sprintf(`
source "amazon-ebs" "web" {
  region              = "us-east-1"
  custom_endpoint_ec2 = %q
  access_key          = "test"
  secret_key          = "test"
  skip_region_validation      = true
  skip_metadata_api_check     = true
  skip_credential_validation  = true
  instance_type       = "t3.micro"
  ami_name            = %q
  %s
}

build {
  sources = ["source.amazon-ebs.web"]
  %s
}
`, cloud.URL, name, source, build)
	file := filepath.Join(dir, "web.pkr.hcl")
	if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "build", "-color=false", file)
	cmd.Env = append(os.Environ(), "AWS_POLL_DELAY_SECONDS=1", "CHECKPOINT_DISABLE=1", "PACKER_CONFIG_DIR="+dir, "HOME="+dir, "TMPDIR="+dir)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("packer: %v\n%s", err, out)
	}
	return string(out)
}

// nothingLeft fails the test when a build has left more than its images.
func nothingLeft(t *testing.T, c *ec2.Client) {
	t.Helper()
	ctx := t.Context()
	for _, r := range must[*ec2.DescribeInstancesOutput](t)(c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})).Reservations {
		for _, i := range r.Instances {
			if i.State.Name != "terminated" {
				t.Errorf("instance %s is left, %s", *i.InstanceId, i.State.Name)
			}
		}
	}
	if n := len(must[*ec2.DescribeKeyPairsOutput](t)(c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{})).KeyPairs); n != 0 {
		t.Errorf("%d key pairs are left", n)
	}
	if n := len(must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})).SecurityGroups); n != 1 {
		t.Errorf("%d security groups are there, want the default one", n)
	}
	if n := len(must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})).Volumes); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
}

const ubuntuSource = `
  source_ami_filter {
    filters = {
      name                = "ubuntu/images/*ubuntu-jammy-22.04-amd64-server-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    most_recent = true
    owners      = ["099720109477"]
  }
  tags = { role = "web" }
  snapshot_tags = { of = "web" }
  run_tags = { by = "packer" }
  run_volume_tags = { by = "packer" }
  ami_description = "baked by packer"
  ami_users = ["111122223333"]
  launch_block_device_mappings {
    device_name = "/dev/sda1"
    volume_size = 20
    volume_type = "gp2"
    delete_on_termination = true
  }
`

// Packer, with all it does besides logging in.
func TestPackerWithoutLogin(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake()})
	out := packer(t, cloud, "packer-api", ubuntuSource+`communicator = "none"`, "")
	c := ec2.NewFromConfig(cloud.Config(region))
	images := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})).Images
	if len(images) != 1 || *images[0].Name != "packer-api" || tagMap(images[0].Tags)["role"] != "web" || *images[0].Description != "baked by packer" {
		t.Errorf("images are %+v\n%s", images, out)
	}
	if !strings.Contains(out, "us-east-1: "+*images[0].ImageId) {
		t.Errorf("packer does not report %s:\n%s", *images[0].ImageId, out)
	}
	nothingLeft(t, c)
}

// Packer bakes an image over SSH; another instance boots from it; and Packer
// bakes the next image on top of the first.
func TestPacker(t *testing.T) {
	cloud := localcloudtest.Start(t)
	c := ec2.NewFromConfig(cloud.Config(region))
	hello := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(hello, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	packer(t, cloud, "packer-web", ubuntuSource+`
  ssh_username = "ubuntu"
  ssh_timeout  = "1m"`, fmt.Sprintf(`
  provisioner "file" {
    source      = %q
    destination = "/tmp/hello"
  }
  provisioner "shell" {
    environment_vars = ["COLOUR=blue"]
    inline = [
      "sudo mkdir -p /srv/www",
      "sudo cp /tmp/hello /srv/www/hello",
      "echo $COLOUR $(id -un) | sudo tee /srv/www/who",
    ]
  }`, hello))
	nothingLeft(t, c)
	first := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})).Images[0]

	packer(t, cloud, "packer-web-2", fmt.Sprintf("source_ami = %q\n  ssh_username = \"ubuntu\"", *first.ImageId), `
  provisioner "shell" {
    inline = ["grep hello /srv/www/hello", "sudo rm /srv/www/hello", "echo second | sudo tee /srv/www/second"]
  }`)
	nothingLeft(t, c)
	second := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Filters: filters("name", "packer-web-2")})).Images[0]

	i := launch(t, c, *second.ImageId)
	for _, tt := range []struct{ line, want string }{
		{"cat /srv/www/who", "blue ubuntu"},
		{"cat /srv/www/second", "second"},
		{"ls /srv/www", "second\nwho"},
	} {
		cmd, err := cloud.Command(t.Context(), i, []string{"/bin/sh", "-c", tt.line})
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.line, got, err, tt.want)
		}
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, "terminated")
	if a := aws.ToString(first.Description); a != "baked by packer" {
		t.Errorf("description is %q", a)
	}
}
