package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// errFound is the error of a search that was to find nothing.
var errFound = errors.New("found something")

const noneUsage = "find nothing: exit with status 3 if there is anything"

func showRecord(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("record", "", errw)
	var q record.Filter
	f.StringVar(&q.By, "by", "", "who asked: api, operator, or itself")
	f.StringVar(&q.Action, "action", "", "`pattern` of actions, such as Run*")
	f.StringVar(&q.Region, "region", "", "region")
	f.StringVar(&q.Build, "build", "", "`id` of a build")
	f.StringVar(&q.Resource, "resource", "", "`id` or name of a resource")
	f.StringVar(&q.Token, "token", "", "ClientToken")
	f.StringVar(&q.Fault, "fault", "", "`id` or kind of a rule that hit; * means any")
	f.StringVar(&q.Code, "code", "", "error `code` that was answered; * means any")
	f.BoolVar(&q.Effects, "effects", false, "only what changed anything")
	f.Uint64Var(&q.After, "after", 0, "only entries with a higher `number`")
	f.IntVar(&q.Last, "last", 0, "only so many of the newest (default: all)")
	since := f.Duration("since", 0, "not older than this")
	none := f.Bool("none", false, noneUsage)
	raw := asJSON(f)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if *since > 0 {
		q.Since = time.Now().Add(-*since)
	}
	list, err := control.Client{Dir: *dir}.Record(ctx, q)
	if err != nil {
		return err
	}
	if *raw {
		err = printJSON(out, list)
	} else {
		err = entries(out, list)
	}
	if err == nil && *none && len(list) > 0 {
		return errFound
	}
	return err
}

func entries(out io.Writer, list []record.Entry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEQ\tTIME\tBY\tREGION\tACTION\tANSWER\tCHANGES\tFAULTS")
	for _, e := range list {
		answer := cmp.Or(e.Code, "ok")
		if e.By == record.Itself {
			answer = "-"
		}
		if e.Answer != "" {
			answer = strings.TrimPrefix(e.Code+" ("+e.Answer+")", " ")
		}
		var changes []string
		for _, c := range e.Changes {
			changes = append(changes, c.Op+" "+strings.TrimSpace(c.ID+" "+c.State))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.Time.Format("2006-01-02 15:04:05.000"), e.By, cmp.Or(e.Region, "-"),
			cmp.Or(e.Action, "-"), answer, cmp.Or(strings.Join(changes, ", "), "-"), cmp.Or(e.FaultText(), "-"))
	}
	return w.Flush()
}

func census(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("census", "", errw)
	q := localcloud.Search{Tags: pairs{}}
	f.StringVar(&q.Region, "region", "", "region (default: all)")
	f.Var(pairs(q.Tags), "tag", "`KEY=VALUE` that the resources have; the value * means any; may be repeated")
	f.BoolVar(&q.Given, "given", false, "also what nobody has made: default networks, publishers' images")
	f.BoolVar(&q.Gone, "gone", false, "also terminated instances that the API has forgotten")
	alive := f.Bool("alive", false, "leave out terminated instances")
	none := f.Bool("none", false, noneUsage)
	history := f.Bool("history", false, "also what became of each")
	raw := asJSON(f)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	list, err := control.Client{Dir: *dir}.Census(ctx, q)
	if err != nil {
		return err
	}
	if *alive {
		list = slices.DeleteFunc(list, func(r localcloud.Resource) bool { return r.State == state.Terminated })
	}
	if *raw {
		err = printJSON(out, list)
	} else {
		err = resources(out, list, *history)
	}
	if err == nil && *none && len(list) > 0 {
		return errFound
	}
	return err
}

func resources(out io.Writer, list []localcloud.Resource, history bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tKIND\tID\tSTATE\tNAME\tTAGS")
	for _, r := range list {
		var tags []string
		for _, k := range slices.Sorted(maps.Keys(r.Tags)) {
			tags = append(tags, k+"="+r.Tags[k])
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Region, r.Kind, r.ID, cmp.Or(r.State, "-"), cmp.Or(r.Name, "-"), strings.Join(tags, " "))
		if !history {
			continue
		}
		for _, m := range r.History {
			fmt.Fprintf(w, "\t\t  %s\t%s\t%s\t%s\n", m.Time.Format("2006-01-02 15:04:05.000"), cmp.Or(m.State, "-"), cmp.Or(m.Action, "-"), m.Reason)
		}
	}
	return w.Flush()
}
