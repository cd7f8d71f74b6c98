package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// typical is a template that Packer 1.6.6 takes, too.
const typical = `variable "region" { default = "us-east-1" }
variable "version" {
  type    = string
  default = "1.2.3"
}
locals {
  name = "web-${var.version}"
  tags = { Name = local.name, Version = var.version }
}
source "amazon-ebs" "web" {
  region        = var.region
  source_ami    = "ami-0123456789abcdef0"
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"
  ami_name      = local.name
  ami_regions   = ["us-west-2", "eu-west-1"]
  tags          = local.tags
}
build {
  sources = ["source.amazon-ebs.web"]
  provisioner "shell" {
    inline           = ["echo ${var.version}"]
    environment_vars = ["VERSION=${var.version}"]
  }
  provisioner "shell" {
    inline = [for p in ["nginx", "curl"] : "apt-get install -y ${p}"]
  }
  post-processor "manifest" {
    output = "manifest.json"
  }
}
`

// BenchmarkValidate compares `submit validate` with `packer validate` on one
// file, in turn, so that both meet the same machine. Below 1 is better.
func BenchmarkValidate(b *testing.B) {
	bin := os.Getenv("BAKEHOUSE_BIN")
	packer, err := exec.LookPath("packer")
	if bin == "" || err != nil {
		b.Skip("needs BAKEHOUSE_BIN and Debian's packer (make bench)")
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.pkr.hcl"), []byte(typical), 0o600); err != nil {
		b.Fatal(err)
	}
	var ours, theirs cost
	for b.Loop() {
		ours.add(validated(b, dir, filepath.Join(bin, "submit")))
		theirs.add(validated(b, dir, packer))
	}
	b.ReportMetric(float64(ours.wall.Milliseconds())/float64(b.N), "ms/submit")
	b.ReportMetric(float64(ours.wall)/float64(theirs.wall), "wall/packer's")
	b.ReportMetric(float64(ours.cpu)/float64(theirs.cpu), "cpu/packer's")
	b.ReportMetric(float64(ours.resident)/float64(theirs.resident), "memory/packer's")
}

// A cost is what runs of a command took: of memory the most, in kB.
type cost struct {
	wall, cpu time.Duration
	resident  int
}

func (c *cost) add(one cost) {
	c.wall += one.wall
	c.cpu += one.cpu
	c.resident = max(c.resident, one.resident)
}

func validated(b *testing.B, dir, program string) cost {
	b.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, "validate", "web.pkr.hcl")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(os.Environ(), "HOME="+dir, "CHECKPOINT_DISABLE=1")
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	c := cost{}
	for {
		select {
		case err := <-done:
			if err != nil {
				b.Fatalf("%s: %v\n%s", program, err, out.String())
			}
			c.wall = time.Since(start)
			c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			return c
		case <-time.After(time.Millisecond):
			// The rusage of a child begins with the memory of who forked it; this does not.
			status, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
			for line := range strings.Lines(string(status)) {
				if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
					c.resident = max(c.resident, n)
				}
			}
		}
	}
}
