//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// BenchmarkTrivialBuild is the wall time of a three-region build whose only
// provisioner is `true`, after start-up.
func BenchmarkTrivialBuild(b *testing.B) {
	s := newStack(b)
	dir := write(b, map[string]string{"trivial.pkr.hcl": source("trivial", `ami_regions = ["us-west-2", "eu-west-1"]`) + `
build {
  sources = ["source.amazon-ebs.trivial"]
  provisioner "shell" { inline = ["true"] }
}`})
	s.must(dir, "trivial.pkr.hcl") // start-up
	for b.Loop() {
		s.must(dir, "-timeline", "trivial.pkr.hcl")
	}
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
