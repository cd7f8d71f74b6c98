package laboratory

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

// A Fault is something that goes wrong at a moment of a build.
type Fault struct {
	Kind string
	// At is when; faults of localcloud's answers have a rule instead.
	At Moment
	// For is how long it lasts.
	For time.Duration
	// Agent and Cable choose a victim.
	Agent int
	Cable string
	// Rule is for faults of localcloud's answers: it is there from the beginning
	// of the build, and strikes when its time has come.
	Rule *faults.Rule
}

// A Moment is a point in the progress of a build: a line that a script has
// written, or a call that localcloud has been asked.
type Moment struct {
	Script, Line int
	Call         string
	Nth          int
}

func (m Moment) String() string {
	if m.Call != "" {
		return fmt.Sprintf("call %d of %s", m.Nth, m.Call)
	}
	return fmt.Sprintf("script %d, line %d", m.Script, m.Line)
}

// A kind is what is to be known of a kind of fault.
type kind struct {
	name   string
	weight int
	// fits tells whether a build may meet it; nil: any may.
	fits func(Recipe) bool
	make func(r *rand.Rand, b Recipe) Fault
	// Whether a build may, or must, fail because of it, and what its reason then
	// looks like. One that asks a person need not fail.
	may, must func(Recipe) bool
	why       *regexp.Regexp
	// all tells that it touches all builds that run, not just its own.
	all bool
}

func always(Recipe) bool { return true }

// Names of the kinds that others must know.
const (
	killServer, killAgent, killCloud, killSubmit   = "kill -9 server", "kill -9 agent", "kill -9 localcloud", "kill -9 submit"
	freezeAgent, freezeServer                      = "freeze agent", "freeze server"
	serverAway, upgradeAgent, fillAgent            = "server away", "upgrade agent", "fill agent's disk"
	cutServer, cutCloud, cutMachines, slowNetwork  = "cut agent-server", "cut agent-cloud", "cut agent-machines", "slow network"
	lossyNetwork, delayedNetwork                   = "packet loss", "packet delay"
	terminateMachine, failHost, rebootMachine      = "terminate machine", "fail host", "reboot machine"
	freezeMachine, fillMachine, pauseLogin         = "freeze machine", "fill machine's disk", "freeze sshd"
	cutMachine, rebootInside, expiredKeys, stormed = "cut machine off", "reboot in expect_disconnect", "credentials expired", "throttled for seconds"
	cancelBuild                                    = "cancel"
	noCapacityAfterAll                             = "no capacity after all"
	pauseBuild, visitMachine, sweepAll             = "pause and resume", "exec on the machine", "sweep meanwhile"
)

// Kinds lists the names of all kinds of faults.
func Kinds() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

func kindNamed(name string) kind {
	all := kinds()
	return all[slices.IndexFunc(all, func(k kind) bool { return k.name == name })]
}

var (
	// gone is what a build says whose machine was taken away; killed what it says
	// when it has heard the end of that from the machine, and nothing from EC2.
	gone   = regexp.MustCompile(`(?i)gone|terminat|shutting-down|Server\.`)
	killed = regexp.MustCompile(`what supervised command \S+ on the machine was killed`)
)

func kinds() []kind {
	lossless := func(b Recipe) bool { return b.Restart }
	lossy := func(b Recipe) bool { return !b.Restart }
	mid := func(name string, least, most time.Duration) func(*rand.Rand, Recipe) Fault {
		return func(r *rand.Rand, b Recipe) Fault {
			return Fault{Kind: name, At: middle(r, b), Agent: r.IntN(2), For: least + time.Duration(r.Int64N(int64(most-least)+1))}
		}
	}
	whenever := func(name string, least, most time.Duration) func(*rand.Rand, Recipe) Fault {
		return func(r *rand.Rand, b Recipe) Fault {
			f := mid(name, least, most)(r, b)
			if r.IntN(3) == 0 {
				f.At = call(r)
			}
			return f
		}
	}
	cable := func(name, to string, least, most time.Duration) func(*rand.Rand, Recipe) Fault {
		return func(r *rand.Rand, b Recipe) Fault {
			f := whenever(name, least, most)(r, b)
			f.Cable = to
			return f
		}
	}
	anyCable := func(name string, least, most time.Duration) func(*rand.Rand, Recipe) Fault {
		return func(r *rand.Rand, b Recipe) Fault {
			return cable(name, []string{"server", "cloud", "machines"}[r.IntN(3)], least, most)(r, b)
		}
	}
	const s = time.Second
	list := []kind{
		{name: killServer, weight: 4, all: true, make: whenever(killServer, s, 3*s)},
		{name: killAgent, weight: 10, all: true, make: whenever(killAgent, s, 6*s)},
		{name: killCloud, weight: 6, all: true, make: whenever(killCloud, s, 3*s)},
		{name: killSubmit, weight: 6, make: mid(killSubmit, s, 2*s)},
		{name: freezeAgent, weight: 3, all: true, make: whenever(freezeAgent, 11*s, 14*s)},
		{name: freezeServer, weight: 1, all: true, make: whenever(freezeServer, 11*s, 14*s)},
		{name: serverAway, weight: 1, all: true, make: mid(serverAway, 15*s, 25*s)},
		{name: upgradeAgent, weight: 5, all: true, make: whenever(upgradeAgent, s, 2*s)},
		{name: fillAgent, weight: 2, all: true, make: whenever(fillAgent, 3*s, 6*s)},
		{name: cutServer, weight: 3, all: true, make: cable(cutServer, "server", 2*s, 14*s)},
		{name: cutCloud, weight: 3, all: true, make: cable(cutCloud, "cloud", 2*s, 10*s)},
		{name: cutMachines, weight: 4, all: true, make: cable(cutMachines, "machines", 2*s, 14*s)},
		{name: slowNetwork, weight: 3, all: true, make: anyCable(slowNetwork, 3*s, 6*s)},
		{name: lossyNetwork, weight: 3, all: true, make: anyCable(lossyNetwork, 3*s, 6*s)},
		{name: delayedNetwork, weight: 3, all: true, make: anyCable(delayedNetwork, 3*s, 6*s)},
		{name: terminateMachine, weight: 6, make: mid(terminateMachine, 0, 0), fits: lossless},
		{name: terminateMachine + ", policy fail", weight: 2, make: func(r *rand.Rand, b Recipe) Fault {
			return mid(terminateMachine+", policy fail", 0, 0)(r, b)
		}, fits: lossy, may: always, must: always, why: gone},
		{name: failHost, weight: 4, make: mid(failHost, 0, 0), fits: lossless},
		{
			name: rebootMachine, weight: 2, make: mid(rebootMachine, 0, 0), fits: func(b Recipe) bool { return !b.fails() && !b.reboots() },
			may: always, why: regexp.MustCompile(`(?i)reboot|disconnected unexpectedly|cannot be reached`),
		},
		{name: rebootInside, weight: 0, make: mid(rebootInside, 0, 0)}, // made by scripts
		{name: freezeMachine, weight: 3, make: mid(freezeMachine, 3*s, 12*s)},
		{name: pauseLogin, weight: 3, make: mid(pauseLogin, 3*s, 12*s)},
		{name: cutMachine, weight: 3, make: mid(cutMachine, 3*s, 12*s)},
		{name: fillMachine, weight: 2, make: mid(fillMachine, 2*s, 4*s), may: always, why: regexp.MustCompile(`.`)},
		{name: expiredKeys, weight: 3, make: whenever(expiredKeys, 2*s, 6*s)},
		{name: stormed, weight: 3, make: whenever(stormed, 2*s, 6*s)},
		{name: pauseBuild, weight: 3, make: whenever(pauseBuild, s, 8*s)},
		{name: visitMachine, weight: 4, make: mid(visitMachine, 0, 0)},
		{name: sweepAll, weight: 3, all: true, make: whenever(sweepAll, 0, 0)},
		{name: cancelBuild, weight: 4, make: whenever(cancelBuild, 0, 0), may: always, why: regexp.MustCompile(`cancel`)},
	}
	return append(list, answers()...)
}

// middle is a moment when a script runs, and will for a while.
func middle(r *rand.Rand, b Recipe) Moment {
	n := r.IntN(len(b.Scripts))
	return Moment{Script: n + 1, Line: 1 + r.IntN(b.Scripts[n].Lines-3)}
}

// call is a moment when localcloud has just been asked for something.
func call(r *rand.Rand) Moment {
	calls := []Moment{
		{Call: "ImportKeyPair", Nth: 1},
		{Call: "CreateSecurityGroup", Nth: 1},
		{Call: "RunInstances", Nth: 1},
		{Call: "StopInstances", Nth: 1},
		{Call: "CreateImage", Nth: 1},
		{Call: "CopyImage", Nth: 1},
		{Call: "CopyImage", Nth: 2},
		{Call: "TerminateInstances", Nth: 1},
		{Call: "DeleteKeyPair", Nth: 1},
	}
	return calls[r.IntN(len(calls))]
}

// answers are the kinds that are faults of localcloud's answers.
//
// A rule that strikes more often than the SDK asks makes the whole call fail, and
// the step that made it is tried again, perhaps by another agent.
func answers() []kind {
	changes := []string{"ImportKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "StopInstances", "CreateImage", "CopyImage", "TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair"}
	rule := func(name string, k faults.Kind, actions []string, most int, delay time.Duration) func(*rand.Rand, Recipe) Fault {
		return func(r *rand.Rand, b Recipe) Fault {
			f := faults.Rule{Kind: k, AccessKey: b.Key, Count: 1 + r.IntN(most)}
			if len(actions) > 0 {
				f.Actions = []string{actions[r.IntN(len(actions))]}
				if f.Actions[0] == "CopyImage" {
					f.Skip = r.IntN(2)
				}
				if f.Actions[0] == "Describe*" {
					f.Skip = r.IntN(20)
				}
			}
			if delay > 0 {
				f.Delay = delay/4 + time.Duration(r.Int64N(int64(delay)))
			}
			return Fault{Kind: name, Rule: &f}
		}
	}
	asks := append([]string{"Describe*", "Describe*", "Describe*"}, changes...)
	plain := func(b Recipe) bool { return !b.Checkpoint }
	// Who sees an image fail gives up. Who finds it failed, as another agent was
	// cut off while it was made, makes another: so builds need not fail.
	fails := regexp.MustCompile(`(?i)fail|Server\.InternalError`)
	const s = time.Second
	return []kind{
		{name: "throttled", weight: 6, make: rule("throttled", faults.Throttle, asks, 6, 0)},
		{name: "error 500", weight: 6, make: rule("error 500", faults.Internal, asks, 6, 0)},
		{name: "connection reset", weight: 5, make: rule("connection reset", faults.Reset, asks, 6, 0)},
		{name: "answer lost", weight: 10, make: rule("answer lost", faults.Lost, changes, 6, 0)},
		{name: "answer lost, 500", weight: 8, make: rule("answer lost, 500", faults.Lost500, changes, 6, 0)},
		{name: "slow answer", weight: 4, make: rule("slow answer", faults.Slow, asks, 3, 4*s)},
		{name: "not seen yet", weight: 5, make: rule("not seen yet", faults.Unseen, nil, 6, 2*s)},
		{name: "stale answer", weight: 5, make: rule("stale answer", faults.Stale, nil, 6, 2*s)},
		{name: "no capacity", weight: 3, make: rule("no capacity", faults.Capacity, nil, 2, 0)},
		{name: noCapacityAfterAll, weight: 3, make: rule(noCapacityAfterAll, faults.Die, nil, 1, s)},
		{name: "image lingers", weight: 4, make: rule("image lingers", faults.Linger, []string{"CreateImage", "CopyImage"}, 1, 4*s)},
		{name: "image fails", weight: 1, make: rule("image fails", faults.Fail, []string{"CreateImage"}, 1, s), fits: plain, may: always, why: fails},
		{name: "copy fails", weight: 2, make: rule("copy fails", faults.Fail, []string{"CopyImage"}, 1, s), may: always, why: fails},
		{
			name: "not authorized", weight: 1, make: rule("not authorized", faults.Unauthorized, []string{"CreateSecurityGroup", "RunInstances", "CopyImage"}, 1, 0),
			may: always, must: always, why: regexp.MustCompile(`(?i)authorized`),
		},
	}
}

// AwayRecipe returns a plan of one build, in the middle of whose second script
// the server goes away for so long, and comes back before the script ends.
func AwayRecipe(seed uint64, long time.Duration) func(int) Recipe {
	return func(n int) Recipe {
		b := NewRecipe(seed, n, nil).Unattended()
		b.Restart, b.Checkpoint = false, false
		b.Scripts = []Script{
			{Lines: 8, Pace: 200 * time.Millisecond},
			{Lines: int(long/time.Second) + 60, Pace: time.Second, Burst: 500},
			{Lines: 8, Pace: 200 * time.Millisecond},
		}
		b.Faults = []Fault{{Kind: serverAway, At: Moment{Script: 2, Line: 5}, For: long}}
		return b
	}
}

// perBuild is how many faults a build meets at most.
const perBuild = 7

// draw plans the faults of a build.
func (b *Recipe) draw(r *rand.Rand, names []string) {
	var list []kind
	sum := 0
	for _, k := range kinds() {
		if k.weight > 0 && (names == nil || slices.Contains(names, k.name)) && (k.fits == nil || k.fits(*b)) {
			list = append(list, k)
			sum += k.weight
		}
	}
	if sum == 0 {
		return
	}
	fatal := 0
	for range 3 + r.IntN(perBuild-2) {
		n := r.IntN(sum)
		i := 0
		for n >= list[i].weight {
			n -= list[i].weight
			i++
		}
		f := list[i].make(r, *b)
		f.Kind = list[i].name
		if list[i].may != nil {
			if fatal++; fatal > 1 {
				continue // one reason to fail is enough
			}
		}
		b.Faults = append(b.Faults, f)
	}
}
