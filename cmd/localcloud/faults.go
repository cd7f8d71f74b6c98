package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/control"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

const faultsUsage = `Usage: localcloud faults add KIND [FLAGS]
       localcloud faults list [FLAGS]
       localcloud faults remove ID|all

Rules by which the API misbehaves, from the next request on. They outlive a
restart of localcloud, as do their counts. Kinds:

  throttle      RequestLimitExceeded (503)
  internal      InternalError (500)
  unavailable   Unavailable (503)
  expired       RequestExpired (400); -code ExpiredToken (403) or AuthFailure (401)
  unauthorized  UnauthorizedOperation (403)
  capacity      RunInstances: InsufficientInstanceCapacity (503)
  slow          the answer comes -delay after the request took effect
  reset         the connection is reset before the request takes effect
  lost          the request takes effect, and the connection is reset
  lost-500      the request takes effect, and InternalError is answered
  unseen        what is younger than -delay does not exist (NotFound) for Describe*,
                Modify* and CreateTags, or the actions that -action names
  stale         Describe* shows what is younger than -delay as it was before; with
                -probability below 1, it goes to and fro
  die           RunInstances: pending for -delay, then terminated, never running
  fail          images, copies, snapshots: pending for -delay, then failed
  linger        images, copies, snapshots: pending for at least -delay

"localcloud faults add -h" lists the flags. The exit status is 0, or 1 for
whatever failed.
`

func faultsCommand(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) error {
	return choose(ctx, "faults", faultsUsage, map[string]verb{"add": addFault, "list": listFaults, "remove": removeFault}, args, in, out, errw)
}

// A verb does what the arguments say.
type verb func(context.Context, []string, io.Reader, io.Writer, io.Writer) error

// choose runs the command of a group that the first argument names.
func choose(ctx context.Context, name, usage string, commands map[string]verb, args []string, in io.Reader, out, errw io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(errw, usage)
		return errUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(out, usage)
		return nil
	}
	f, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(errw, "localcloud %s: there is no command %s\n\n%s", name, args[0], usage)
		return errUsage
	}
	return f(ctx, args[1:], in, out, errw)
}

// words is a flag that may be given several times, or with commas.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(s string) error {
	for v := range strings.SplitSeq(s, ",") {
		if v != "" {
			*w = append(*w, v)
		}
	}
	return nil
}

func addFault(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("faults add", "KIND", errw)
	var r faults.Rule
	var actions, regions, resources words
	f.StringVar(&r.ID, "id", "", "`name` of the rule (default: fault-N)")
	f.Var(&actions, "action", "actions that it hits, such as `Run*`; may be repeated (default: all that the kind is for)")
	f.Var(&regions, "region", "regions that it hits, such as `us-*`; may be repeated (default: all)")
	f.Var(&resources, "resource", "`kind` of resources that unseen and stale are about: instance, image, snapshot, key-pair, security-group, volume, tags; may be repeated (default: all)")
	f.StringVar(&r.Build, "build", "", "hit only requests about the build of this `id`: by tag, name or ClientToken")
	f.StringVar(&r.AccessKey, "access-key", "", "hit only requests signed with keys like this `pattern`")
	f.IntVar(&r.Skip, "skip", 0, "let so many requests pass first, of those that the rule is about")
	f.IntVar(&r.Count, "count", 0, "hit so many requests, then rest (default: without end)")
	f.Float64Var(&r.Probability, "probability", 1, "of each request to be hit, above 0")
	f.Uint64Var(&r.Seed, "seed", 0, "which requests a probability hits")
	f.DurationVar(&r.Delay, "delay", 0, "what the kind says of it")
	f.StringVar(&r.Code, "code", "", "error code, or state reason, in place of the kind's")
	f.StringVar(&r.Message, "message", "", "message that goes with it")
	after := f.Duration("after", 0, "begin after this time")
	during := f.Duration("for", 0, "end after this time (from the beginning)")
	plain, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if r.Probability == 0 {
		return fmt.Errorf("faults add: a probability of 0 hits nothing")
	}
	r.Kind, r.Actions, r.Regions, r.Resources = faults.Kind(plain[0]), actions, regions, resources
	begin := time.Now().UTC().Add(*after)
	if *after > 0 {
		r.From = begin
	}
	if *during > 0 {
		r.Until = begin.Add(*during)
	}
	if r, err = (control.Client{Dir: *dir}).AddFault(ctx, r); err != nil {
		return err
	}
	fmt.Fprintln(out, r.ID)
	return nil
}

func asJSON(f *flag.FlagSet) *bool { return f.Bool("json", false, "print one JSON object a line") }

func printJSON[T any](out io.Writer, list []T) error {
	e := json.NewEncoder(out)
	for _, v := range list {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func listFaults(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("faults list", "", errw)
	raw := asJSON(f)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	list, err := control.Client{Dir: *dir}.Faults(ctx)
	if err != nil {
		return err
	}
	if *raw {
		return printJSON(out, list)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tACTIONS\tHITS\tSEEN\tLIMITS")
	for _, s := range list {
		hits := strconv.Itoa(s.Hits)
		if s.Count > 0 {
			hits += " of " + strconv.Itoa(s.Count)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", s.ID, s.Kind, cmp.Or(strings.Join(s.Actions, ","), "all"), hits, s.Seen, cmp.Or(limits(s.Rule), "-"))
	}
	return w.Flush()
}

// limits says what else a rule depends on.
func limits(r faults.Rule) string {
	var list []string
	add := func(name, v string) {
		if v != "" {
			list = append(list, name+"="+v)
		}
	}
	add("region", strings.Join(r.Regions, ","))
	add("build", r.Build)
	add("access-key", r.AccessKey)
	add("resource", strings.Join(r.Resources, ","))
	if r.Skip > 0 {
		add("skip", strconv.Itoa(r.Skip))
	}
	if r.Probability > 0 && r.Probability < 1 {
		add("probability", strconv.FormatFloat(r.Probability, 'g', -1, 64))
		add("seed", strconv.FormatUint(r.Seed, 10))
	}
	if r.Delay > 0 {
		add("delay", r.Delay.String())
	}
	if !r.From.IsZero() {
		add("from", r.From.Format(time.RFC3339))
	}
	if !r.Until.IsZero() {
		add("until", r.Until.Format(time.RFC3339))
	}
	return strings.Join(list, " ")
}

func removeFault(ctx context.Context, args []string, _ io.Reader, _, errw io.Writer) error {
	f, dir := flags("faults remove", "ID|all", errw)
	plain, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if plain[0] == "all" {
		plain[0] = "*"
	}
	return control.Client{Dir: *dir}.RemoveFault(ctx, plain[0])
}
