package standin_test

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/standin"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct{ owner, pattern, arch, want string }{
		{"099720109477", "ubuntu/images/*ubuntu-noble-24.04-amd64-server-*", "x86_64", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260101"},
		{"099720109477", "ubuntu/images/*ubuntu-noble-24.04-arm64-server-*", "arm64", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20260101"},
		{"099720109477", "ubuntu/images/*ubuntu-noble-24.04-arm64-server-*", "x86_64", ""},
		{"099720109477", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-2023*", "x86_64", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20230101"},
		{"099720109477", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-202311*", "x86_64", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20231101"},
		{"099720109477", "ubuntu/images/hvm-ssd/ubuntu-zesty-17.04-amd64-server-*", "x86_64", "ubuntu/images/hvm-ssd/ubuntu-zesty-17.04-amd64-server-20260101"},
		{"099720109477", "ubuntu-minimal/images/*/ubuntu-jammy-22.04-amd64-minimal-*", "x86_64", "ubuntu-minimal/images/hvm-ssd/ubuntu-jammy-22.04-amd64-minimal-20260101"},
		{"136693071363", "debian-11-amd64-20231013-1532", "x86_64", "debian-11-amd64-20231013-1532"},
		{"amazon", "amzn2-ami-hvm-*-x86_64-gp2", "x86_64", "amzn2-ami-hvm-2.0.20260101.0-x86_64-gp2"},
		{"amazon", "al2023-ami-*-x86_64", "x86_64", "al2023-ami-2023.9.20260101.0-kernel-6.1-x86_64"},
		{"309956199498", "RHEL-9*_HVM-*-x86_64-*", "x86_64", "RHEL-9.6.0_HVM-20260101-x86_64-0-Hourly2-GP3"},
		{"792107900819", "Rocky-9-EC2-Base-*.aarch64", "arm64", "Rocky-9-EC2-Base-9.6-20260101.0.aarch64"},
		{"amazon", "Windows_Server-2022-English-Full-Base-*", "x86_64", ""},
		{"123456789012", "ubuntu/images/*", "x86_64", ""},
		{"099720109477", "whatever-*", "x86_64", ""},
	} {
		n, ok := standin.Find([]string{tt.owner}, []string{tt.pattern}, tt.arch)
		if n.Name != tt.want || ok != (tt.want != "") {
			t.Errorf("%s %s for %s: %q, want %q", tt.owner, tt.pattern, tt.arch, n.Name, tt.want)
		}
		if ok && !filter.Match(tt.pattern, n.Name) {
			t.Errorf("%q does not match %q", n.Name, tt.pattern)
		}
		if ok && n.Published.IsZero() {
			t.Errorf("%q was never published", n.Name)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("ubuntu/images/*ubuntu-noble-24.04-amd64-server-*")
	f.Add("debian-12-amd64-20*")
	f.Fuzz(func(t *testing.T, pattern string) {
		n, ok := standin.Find([]string{"amazon", "099720109477"}, []string{pattern}, "x86_64")
		if ok && !filter.Match(pattern, n.Name) {
			t.Errorf("%q does not match %q", n.Name, pattern)
		}
	})
}
