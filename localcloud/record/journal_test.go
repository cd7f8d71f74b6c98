package record_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

func open(t *testing.T, c record.Config, mark uint64) *record.Journal {
	t.Helper()
	j, err := record.Open(c, mark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func add(t *testing.T, j *record.Journal, e record.Entry) uint64 {
	t.Helper()
	seq, err := j.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func numbers(t *testing.T, j *record.Journal, f record.Filter) []uint64 {
	t.Helper()
	var list []uint64
	if err := j.Read(f, func(e record.Entry) bool { list = append(list, e.Seq); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func made(id string) []state.Change {
	return []state.Change{{Op: state.Created, Summary: state.Summary{Kind: "image", Region: "us-east-1", ID: id, Tags: state.Tags{"b": "build-" + id}}}}
}

// What was written before the process was killed is there; a line that it was
// writing is not; nor is what the state never got.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	c := record.Config{Dir: dir}
	j := open(t, c, 0)
	add(t, j, record.Entry{Action: "DescribeImages"})
	add(t, j, record.Entry{Action: "CreateImage", Changes: made("ami-1")})
	add(t, j, record.Entry{Action: "CopyImage", Changes: made("ami-2")}) // not committed
	add(t, j, record.Entry{Action: "DescribeImages"})
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("files %v, %v", names, err)
	}
	f, err := os.OpenFile(names[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":5,"action":"Half`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // whether it was closed or killed
		j = open(t, c, 2)
		if diff := cmp.Diff([]uint64{1, 2, 4}, numbers(t, j, record.Filter{})); diff != "" {
			t.Error(diff)
		}
	}
	if seq := add(t, j, record.Entry{Action: "RunInstances", Changes: made("i-1")}); seq != 5 {
		t.Errorf("next is %d", seq)
	}
	if err := j.Undo(5); err != nil {
		t.Fatal(err)
	}
	if seq := add(t, j, record.Entry{}); seq != 6 {
		t.Errorf("next is %d", seq)
	}
	if diff := cmp.Diff([]uint64{1, 2, 4, 6}, numbers(t, j, record.Filter{})); diff != "" {
		t.Error(diff)
	}
	// A line in the middle that is no entry is said, not skipped.
	if err := os.WriteFile(names[0], []byte("{\"seq\":1}\nrubbish\n{\"seq\":2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Read(record.Filter{}, func(record.Entry) bool { return true }); err == nil {
		t.Error("rubbish was read")
	}
}

// The oldest files go; numbers go on.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	c := record.Config{Dir: dir, FileSize: 1000, Files: 3}
	var last uint64
	for range 4 {
		j := open(t, c, 0)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 10 {
					if _, err := j.Append(record.Entry{Action: "DescribeInstances", Region: "us-east-1"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		list := numbers(t, j, record.Filter{})
		last += 40
		if len(list) == 0 || list[len(list)-1] != last {
			t.Fatalf("last is not %d: %v", last, list)
		}
		for n, seq := range list {
			if seq != list[0]+uint64(n) {
				t.Errorf("gap before %d", seq)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 3 {
		t.Errorf("files %v, %v", names, err)
	}
	var size int64
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 3*1300 {
		t.Errorf("%d bytes are kept", size)
	}
}

func TestFilter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := open(t, record.Config{Dir: t.TempDir()}, 0)
	for n, e := range []record.Entry{
		{By: record.API, Action: "RunInstances", Region: "us-east-1", Token: "tok", Builds: []string{"b1"}, Names: []string{"ami-9"}, Changes: made("i-1")},
		{By: record.API, Action: "DescribeInstances", Region: "eu-west-1", Code: "RequestLimitExceeded", Faults: []record.Fault{{Rule: "f1", Kind: "throttle"}}},
		{By: record.Itself, Changes: made("i-2")},
		{By: record.Operator, Action: "machine freeze", Names: []string{"i-1"}},
	} {
		e.Time = at.Add(time.Duration(n) * time.Minute)
		add(t, j, e)
	}
	for _, tt := range []struct {
		name   string
		filter record.Filter
		want   []uint64
	}{
		{"all", record.Filter{}, []uint64{1, 2, 3, 4}},
		{"action", record.Filter{Action: "Run*"}, []uint64{1}},
		{"region, of the request or of what changed", record.Filter{Region: "us-east-1"}, []uint64{1, 3}},
		{"by", record.Filter{By: record.API}, []uint64{1, 2}},
		{"build, by request", record.Filter{Build: "b1"}, []uint64{1}},
		{"build, by tag", record.Filter{Build: "build-i-2"}, []uint64{3}},
		{"resource", record.Filter{Resource: "i-1"}, []uint64{1, 4}},
		{"named", record.Filter{Resource: "ami-9"}, []uint64{1}},
		{"token", record.Filter{Token: "tok"}, []uint64{1}},
		{"rule", record.Filter{Fault: "f1"}, []uint64{2}},
		{"kind of fault", record.Filter{Fault: "throttle"}, []uint64{2}},
		{"any fault", record.Filter{Fault: "*"}, []uint64{2}},
		{"code", record.Filter{Code: "RequestLimitExceeded"}, []uint64{2}},
		{"any code", record.Filter{Code: "*"}, []uint64{2}},
		{"effects", record.Filter{Effects: true}, []uint64{1, 3}},
		{"after", record.Filter{After: 2}, []uint64{3, 4}},
		{"last", record.Filter{Last: 1}, []uint64{4}},
		{"time", record.Filter{Since: at.Add(time.Minute), Until: at.Add(3 * time.Minute)}, []uint64{2, 3}},
		{"two", record.Filter{Effects: true, By: record.API}, []uint64{1}},
		{"none", record.Filter{Build: "other"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, numbers(t, j, tt.filter)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := j.Read(record.Filter{}, func(e record.Entry) bool {
		if e.Seq > 2 {
			t.Errorf("went on to %d", e.Seq)
		}
		return e.Seq < 2
	}); err != nil {
		t.Error(err)
	}
	if got := (record.Entry{Faults: []record.Fault{{Rule: "f1", Kind: "slow"}, {Rule: "f2", Kind: "lost"}}}).FaultText(); got != "f1 (slow), f2 (lost)" {
		t.Error(got)
	}
	if _, err := record.Open(record.Config{Dir: fmt.Sprintf("%s/file/record", os.DevNull)}, 0); err == nil {
		t.Error("opened where no folder can be")
	}
}
