package laboratory

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Recipe is one build of the plan: what its template does, what its submitter
// asks for, and which faults it meets. It follows from the seed and the number
// alone.
type Recipe struct {
	N    int
	Name string // of its source
	Key  string // the access key by which localcloud knows its requests

	Scripts    []Script
	Restart    bool // -on-machine-loss=restart
	Checkpoint bool // -checkpoint
	Upload     bool // a file goes to the machine first
	Asks       bool // -on-error=ask: a person is asked what to do about what fails
	Breakpoint bool // a person lets it go on after its first script
	Keeps      bool // a person tries again what fails late, instead of all
	Faults     []Fault
}

// A Script is one shell provisioner.
type Script struct {
	Lines int
	Pace  time.Duration // between two lines
	// Burst is how many more lines it prints at its end, without a pause.
	Burst int
	// Reboots: it reboots the machine at its end, as expect_disconnect allows.
	Reboots bool
	// Fails: it fails the first time, and max_retries, or who is asked, lets it
	// run again.
	Fails bool
}

// whole is how many lines the script prints.
func (s Script) whole() int { return s.Lines + s.Burst }

// NewRecipe returns build n of the plan that a seed stands for. Only faults of
// the kinds named are planned; nil means all that there are.
func NewRecipe(seed uint64, n int, kinds []string) Recipe {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	b := Recipe{
		N: n, Name: fmt.Sprintf("lab-%d-%d", seed, n), Key: fmt.Sprintf("AKIALAB%dX%05d", seed, n),
		Upload: r.IntN(3) == 0,
	}
	switch r.IntN(4) {
	case 0:
		b.Restart = true
	case 1:
		b.Restart, b.Checkpoint = true, true
	}
	switch r.IntN(8) {
	case 0, 1:
		b.Asks = true
	case 2:
		b.Keeps = true
	}
	b.Breakpoint = r.IntN(6) == 0
	special := r.IntN(8)
	for i := range 3 + r.IntN(2) {
		s := Script{Lines: 8 + r.IntN(8), Pace: time.Duration(150+r.IntN(150)) * time.Millisecond}
		if r.IntN(4) == 0 {
			s.Burst = 200 + r.IntN(400)
		}
		switch {
		case i == 1 && special < 2:
			s.Reboots, s.Burst = true, 0
		case i == 1 && (special == 2 || b.Asks):
			s.Fails = true
		}
		b.Scripts = append(b.Scripts, s)
	}
	b.draw(r, kinds)
	return b
}

// reboots tells whether a script reboots the machine.
func (b Recipe) reboots() bool {
	return slices.ContainsFunc(b.Scripts, func(s Script) bool { return s.Reboots })
}

// fails tells whether a script is tried again.
func (b Recipe) fails() bool {
	return slices.ContainsFunc(b.Scripts, func(s Script) bool { return s.Fails })
}

// Unattended returns the build without what needs a person.
func (b Recipe) Unattended() Recipe {
	if b.Asks {
		b.Scripts = slices.Clone(b.Scripts)
		b.Scripts[1].Fails = false
	}
	b.Asks, b.Keeps, b.Breakpoint = false, false, false
	return b
}

// forgives tells whether a person may let it go on after a failure.
func (b Recipe) forgives() bool { return b.Asks || b.Keeps }

// length is how long the scripts take, undisturbed.
func (b Recipe) length() (d time.Duration) {
	for _, s := range b.Scripts {
		d += time.Duration(s.Lines) * s.Pace
	}
	return d
}

// asks is how often a call is asked in all, of which the default is ten. With
// two, calls fail as a whole, and the step that made them is tried again.
func (b Recipe) asks() int {
	if b.N%3 == 0 {
		return 10
	}
	return 2
}

// Regions that images are copied to.
var copies = []string{"us-west-2", "eu-west-1"}

const home = "us-east-1"

// flags are what submit is told besides the template.
func (b Recipe) flags() []string {
	keep := "-keep=0" // else what failed late is kept on purpose
	if b.Keeps {
		keep = "-keep=10m"
	}
	f := []string{keep}
	if b.Asks {
		f = append(f, "-on-error=ask")
	}
	if b.Restart {
		f = append(f, "-on-machine-loss=restart")
	}
	if b.Checkpoint {
		f = append(f, "-checkpoint")
	}
	return f
}

// script writes down everything twice: to the log of the build, and to a
// journal on the machine, which is what the log is compared with.
func (s Script) text(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
set -e
lab=$HOME/lab
mkdir -p "$lab"
run=$(cat /proc/sys/kernel/random/uuid)
note() { printf '%%s\n' "$1" >> "$lab/journal"; }
say() { note "$1"; printf '%%s\n' "$1"; }
note "begin %[1]d $run"
i=0
while [ $i -lt %[2]d ]; do
	i=$((i+1))
	say "L %[1]d $run $i here is line $i of script %[1]d"
	sleep %.2[3]f
done
while [ $i -lt %[4]d ]; do
	i=$((i+1))
	say "L %[1]d $run $i here is line $i of script %[1]d, one of many that come at once and do not wait for anybody"
done
`, n, s.Lines, s.Pace.Seconds(), s.whole())
	switch {
	case s.Fails:
		fmt.Fprintf(&b, `if [ ! -e "$lab/failed-%[1]d" ]; then
	: > "$lab/failed-%[1]d"
	note "fail %[1]d $run"
	exit 7
fi
note "end %[1]d $run"
`, n)
	case s.Reboots:
		fmt.Fprintf(&b, `note "end %[1]d $run"
sudo reboot
sleep 600
`, n)
	default:
		fmt.Fprintf(&b, "note \"end %[1]d $run\"\n", n)
	}
	return b.String()
}

// templateName is the name of a recipe's template.
const templateName = "laboratory.pkr.hcl"

// write writes the template and its scripts into a folder. Access says how the
// cloud is reached, where the environment cannot say it.
func (b Recipe) write(dir, access string) error {
	var t strings.Builder
	fmt.Fprintf(&t, `source "amazon-ebs" "%[1]s" {
  access_key    = "%[2]s"
  secret_key    = "laboratory"
  max_retries   = %[6]d
  region        = "%[3]s"
  ami_regions   = ["%[4]s"]
  ami_name      = "%[1]s-{{timestamp}}"
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"
%[5]s  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters     = { name = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*" }
  }
}

build {
  sources = ["source.amazon-ebs.%[1]s"]
`, b.Name, b.Key, home, strings.Join(copies, `", "`), access, b.asks())
	if b.Upload {
		t.WriteString("  provisioner \"file\" {\n    source      = \"payload\"\n    destination = \"/home/ubuntu/payload\"\n  }\n")
		if err := os.WriteFile(filepath.Join(dir, "payload"), b.payload(), 0o600); err != nil {
			return err
		}
	}
	for i, s := range b.Scripts {
		name := fmt.Sprintf("script-%d.sh", i+1)
		fmt.Fprintf(&t, "  provisioner \"shell\" {\n    script = %q\n", name)
		if s.Reboots {
			t.WriteString("    expect_disconnect = true\n")
		}
		if s.Fails && !b.Asks {
			t.WriteString("    max_retries = 2\n")
		}
		t.WriteString("  }\n")
		if b.Breakpoint && i == 0 {
			t.WriteString("  provisioner \"breakpoint\" {}\n")
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s.text(i+1)), 0o700); err != nil {
			return err
		}
	}
	t.WriteString("  post-processor \"manifest\" {\n    output = \"manifest.json\"\n  }\n}\n")
	return os.WriteFile(filepath.Join(dir, templateName), []byte(t.String()), 0o600)
}

// payload is what is uploaded.
func (b Recipe) payload() []byte {
	r := rand.New(rand.NewPCG(7, uint64(b.N)))
	p := make([]byte, 100<<10)
	for i := range p {
		p[i] = byte('a' + r.IntN(26))
	}
	return p
}
