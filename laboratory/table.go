package laboratory

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/line"
)

// A Row is what was found of one kind of fault.
type Row struct {
	Kind string
	// Times is how often it was injected, Builds how many builds it hit.
	Times, Builds int
	// Lost, Twice, Again, Bytes and Left are sums over the builds that it hit; a build
	// that met several faults counts for each, as nobody knows which it was.
	Lost, Twice, Again, Bytes, Left int
	// Lasts is the longest time that it was in force itself. Stall is the longest
	// time from its beginning until a build that it hit was seen to go on; Alone
	// is the same where no other fault was in force meanwhile.
	Lasts, Stall, Alone time.Duration
	// Missing says why it could not be injected at all.
	Missing string
}

// A Report is what a run of the laboratory has found.
type Report struct {
	Seed uint64
	// Interrupted tells that the run was ended before its time.
	Interrupted bool
	Faults      int // injected
	Findings    []Finding
	Rows        []Row
	// Orphans are resources in any region that belong to no build.
	Orphans []string
	// Skipped says which planned faults did not happen, and why.
	Skipped map[string]map[string]int
	Took    time.Duration
	// Quiet is the longest time without any progress of a build that no fault
	// was in force for.
	Quiet time.Duration
	// Longest is the longest time in which a build was not seen to go on,
	// whatever the reason.
	Longest Stall
}

// A Stall is a time in which a build was not seen to go on.
type Stall struct {
	Build int // its number
	From  time.Time
	Took  time.Duration
	Kinds []string // of the faults that were in force
}

// worthKeeping is how long a stall may be before somebody will want to know what
// the processes wrote meanwhile. No fault lasts so long, but -away.
const worthKeeping = 3 * time.Minute

// Good tells whether everything is as it should be.
func (r Report) Good() bool {
	return !r.Interrupted && len(r.Orphans) == 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return len(f.Trouble) > 0 })
}

// Write writes the report for people.
func (r Report) Write(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\ttimes\tbuilds hit\tlost\tscripts twice\tmade twice\tlog bytes\tleft\tlasts\tstall\talone\t")
	var sum Row
	for _, row := range r.Rows {
		if row.Missing != "" {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t\n", row.Kind, row.Times, row.Builds, row.Lost, row.Twice, row.Again, row.Bytes, row.Left,
			seconds(row.Lasts), seconds(row.Stall), seconds(row.Alone))
		sum.Times += row.Times
	}
	outcomes := map[string]int{}
	for _, f := range r.Findings {
		outcomes[f.Outcome]++
		if f.Lost {
			sum.Lost++
		}
		sum.Twice += f.Twice
		sum.Again += f.Again
		sum.Bytes += f.Bytes
		sum.Left += f.Left
	}
	fmt.Fprintf(t, "all\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\t\t\t\n", sum.Times, len(r.Findings), sum.Lost, sum.Twice, sum.Again, sum.Bytes, sum.Left+len(r.Orphans))
	t.Flush()
	fmt.Fprintf(w, "\nseed %d: %d faults in %d builds, in %s; ", r.Seed, r.Faults, len(r.Findings), r.Took.Round(time.Second))
	for _, o := range []string{"succeeded", "failed", "cancelled", "did not end"} {
		if outcomes[o] > 0 {
			fmt.Fprintf(w, "%d %s; ", outcomes[o], o)
		}
	}
	fmt.Fprintf(w, "longest pause of a build without any fault: %s\n", seconds(r.Quiet))
	if s := r.Longest; s.Took > 0 {
		fmt.Fprintf(w, "longest stall: build %d, %s from %s on (%s)\n", s.Build, seconds(s.Took), s.From.Format(time.TimeOnly), cmp.Or(strings.Join(s.Kinds, ", "), "no fault"))
	}
	fmt.Fprintln(w, "lasts: how long the fault itself was in force, the coming back of what it hit included")
	fmt.Fprintln(w, "stall: the longest that a build it hit was not seen to go on while or after it was in force, counted from its beginning; faults overlap, so other faults may have made it longer")
	fmt.Fprintln(w, "alone: the same where no other fault was in force")
	if r.Interrupted {
		fmt.Fprintln(w, "the run was interrupted: builds that were under way then are not in the table")
	}
	for _, row := range r.Rows {
		if row.Missing != "" {
			fmt.Fprintf(w, "not injected: %s: %s\n", row.Kind, row.Missing)
		}
	}
	for _, kind := range Kinds() {
		for why, n := range r.Skipped[kind] {
			fmt.Fprintf(w, "not injected: %s, %d times: %s\n", kind, n, why)
		}
	}
	for _, f := range r.Findings {
		if len(f.Trouble) > 0 {
			fmt.Fprintf(w, "TROUBLE build %d (%s; met: %s):\n  %s\n", f.Number, f.Outcome, strings.Join(f.Kinds, ", "), strings.Join(f.Trouble, "\n  "))
		}
	}
	for _, o := range r.Orphans {
		fmt.Fprintln(w, "TROUBLE orphan:", o)
	}
}

// WritePacker writes what RunPacker found.
func WritePacker(w io.Writer, rows []Row, notes []string) {
	fmt.Fprintln(w, "\nDebian's packer, one fault in each build; a killed one is begun again with the same command")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\ttimes\tbuilds\tlost\tscripts twice\tlog bytes\tleft\t")
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", row.Kind, row.Times, row.Builds, row.Lost, row.Twice, row.Bytes, row.Left)
	}
	t.Flush()
	slices.Sort(notes)
	for _, n := range notes {
		fmt.Fprintln(w, "packer,", n)
	}
}

func seconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// afterwards is how long a fault may still be the reason why nothing happens:
// the heartbeat time-out, and a little more.
const afterwards = 15 * time.Second

// A gap is a time in which a build was not seen to go on.
type gap struct {
	of         *track
	begin, end time.Time
}

// gaps returns the times between the marks of a build.
func (t *track) gaps() []gap {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []gap
	for i := 1; i < len(t.marks); i++ {
		list = append(list, gap{t, t.marks[i-1], t.marks[i]})
	}
	return list
}

// rows sums up.
func rows(strikes []*strike, findings []Finding, tracks []*track, skipped map[string]map[string]int) (list []Row, quiet time.Duration, longest Stall) {
	found := map[string]Finding{}
	for _, f := range findings {
		found[f.Build] = f
	}
	about := map[*track][]*strike{}
	for _, x := range strikes {
		for _, t := range x.hit {
			about[t] = append(about[t], x)
		}
	}
	byKind := map[string]*Row{}
	builds := map[string]map[*track]bool{}
	for _, x := range strikes {
		row := byKind[x.Kind]
		if row == nil {
			row = &Row{Kind: x.Kind}
			byKind[x.Kind], builds[x.Kind] = row, map[*track]bool{}
		}
		row.Times++
		row.Lasts = max(row.Lasts, x.ended.Sub(x.begun))
		for _, t := range x.hit {
			if !builds[x.Kind][t] {
				builds[x.Kind][t] = true
				f := found[t.recipe.Name]
				row.Builds++
				row.Twice, row.Again, row.Bytes, row.Left = row.Twice+f.Twice, row.Again+f.Again, row.Bytes+f.Bytes, row.Left+f.Left
				if f.Lost {
					row.Lost++
				}
			}
		}
	}
	for _, t := range tracks {
		for _, g := range t.gaps() {
			var in []*strike
			for _, x := range about[t] {
				// In force when the gap begins, or begun within it.
				if x.inForce(g.begin, g.end, time.Second) {
					in = append(in, x)
				}
			}
			if len(in) == 0 && !slices.ContainsFunc(about[t], func(x *strike) bool {
				return x.inForce(g.begin, g.end, afterwards)
			}) {
				quiet = max(quiet, g.end.Sub(g.begin))
			}
			if d := g.end.Sub(g.begin); d > longest.Took {
				longest = Stall{Build: t.recipe.N, From: g.begin, Took: d}
				for _, x := range in {
					longest.Kinds = append(longest.Kinds, x.Kind)
				}
			}
			for _, x := range in {
				// A fault that begins within a gap stalls from its beginning on.
				from := g.begin
				if x.begun.After(from) {
					from = x.begun
				}
				row := byKind[x.Kind]
				row.Stall = max(row.Stall, g.end.Sub(from))
				if len(in) == 1 {
					row.Alone = max(row.Alone, g.end.Sub(from))
				}
			}
		}
	}
	for _, k := range Kinds() {
		if row := byKind[k]; row != nil {
			list = append(list, *row)
		} else if skipped[k][line.ErrMissing.Error()] > 0 {
			list = append(list, Row{Kind: k, Missing: line.ErrMissing.Error()})
		}
	}
	return list, quiet, longest
}
