//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

// BenchmarkTrivialBuild is the wall time of a three-region build whose only
// provisioner is `true`, after start-up, and how much of it is not the
// machine's and the cloud's own work: booting, running, stopping, imaging.
func BenchmarkTrivialBuild(b *testing.B) {
	s := newStack(b)
	dir := write(b, map[string]string{"trivial.pkr.hcl": source("trivial", `ami_regions = ["us-west-2", "eu-west-1"]`) + `
build {
  sources = ["source.amazon-ebs.trivial"]
  provisioner "shell" { inline = ["true"] }
}`})
	s.must(dir, "trivial.pkr.hcl") // start-up
	var wall, own time.Duration
	n := 0
	for b.Loop() {
		begin := time.Now()
		out := s.must(dir, "trivial.pkr.hcl")
		wall += time.Since(begin)
		n++
		b.StopTimer()
		own += s.machineWork(out)
		b.StartTimer()
	}
	b.ReportMetric(wall.Seconds()/float64(n), "s/build")
	b.ReportMetric((wall-own).Seconds()/float64(n), "s-overhead/build")
}

var submissionID = regexp.MustCompile(`\btrivial-[a-z2-7]{10}\b`)

// machineWork is how long the steps of a build took in which the machine or
// the cloud worked, by its timeline.
func (s *stack) machineWork(out string) time.Duration {
	s.t.Helper()
	id := submissionID.FindString(out)
	cmd := exec.Command(bin(s.t, "submit"), "timeline", "-local", "-json", id)
	cmd.Env = append(environ(), "BAKEHOUSE_STATE="+s.state)
	data, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("timeline of %q: %v", id, err)
	}
	var tl struct{ Root *timeline.Span }
	if err := json.Unmarshal(data, &tl); err != nil {
		s.t.Fatal(err)
	}
	var sum time.Duration
	var walk func(*timeline.Span)
	walk = func(span *timeline.Span) {
		for _, name := range []string{"await-machine", "connect", "provision", "stop", "await-image", "release"} {
			if strings.HasPrefix(span.Name, name) && !span.Ended.IsZero() {
				sum += span.Ended.Sub(span.Started)
			}
		}
		for _, child := range span.Children {
			walk(child)
		}
	}
	walk(tl.Root)
	return sum
}

// BenchmarkBuildsAtOnce measures what 1, 10 and 50 builds at once cost: memory
// of agent and server above what they take idle, in KiB a build.
func BenchmarkBuildsAtOnce(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newStack(b)
			hcl, names := "", []string{}
			for i := range n {
				name := fmt.Sprintf("s%d", i)
				hcl += source(name, "")
				names = append(names, `"source.amazon-ebs.`+name+`"`)
			}
			hcl += "build {\n  sources = [" + strings.Join(names, ", ") + "]\n  provisioner \"shell\" { inline = [\"for i in $(seq 20); do echo $i; sleep 1; done\"] }\n}\n"
			warm := write(b, map[string]string{"warm.pkr.hcl": source("warm", "") + "build {\n  sources = [\"source.amazon-ebs.warm\"]\n}\n"})
			dir := write(b, map[string]string{"many.pkr.hcl": hcl})
			s.must(warm, "warm.pkr.hcl")
			idle := map[string]int{"agent": s.rss("agent"), "server": s.rss("server")}
			for b.Loop() {
				peak := map[string]int{}
				begin := time.Now()
				r := s.start(dir, "build", "-local", "many.pkr.hcl")
				ended := make(chan error, 1)
				go func() { ended <- r.Wait() }()
				for running := true; running; {
					select {
					case err := <-ended:
						if err != nil {
							b.Fatalf("%v\n%s", err, r.out)
						}
						running = false
					case <-time.After(200 * time.Millisecond):
						for name := range idle {
							peak[name] = max(peak[name], s.rss(name))
						}
					}
				}
				b.ReportMetric(time.Since(begin).Seconds()-20, "s-beyond-script")
				for name := range idle {
					b.ReportMetric(float64(peak[name]-idle[name])/float64(n), name+"-KiB/build")
					b.ReportMetric(float64(peak[name])/1024, name+"-MiB")
				}
			}
		})
	}
}

// rss is the resident memory of a process of the stack, in KiB.
func (s *stack) rss(name string) int {
	s.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process(name)))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			return atoi(s.t, f[1])
		}
	}
	return 0
}
