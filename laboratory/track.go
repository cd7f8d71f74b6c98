package laboratory

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A track is what is seen of a build from outside, while it runs.
type track struct {
	recipe Recipe

	mu       sync.Mutex
	calls    map[string]int // that localcloud was asked, by action
	builds   map[string]bool
	machines []string               // in the order of their launch
	journals map[string][]string    // of each machine, as last seen
	visitors map[string][]string    // who was on each machine, as they wrote down
	marks    []time.Time            // when the build was seen to go on
	created  map[string]bool        // resources, as region/id
	made     map[string]int         // how many of a kind, in each region
	struck   map[string][]time.Time // when rules hit, by their id
	logSize  int64
	ended    time.Time
}

func newTrack(b Recipe) *track {
	return &track{recipe: b, calls: map[string]int{}, builds: map[string]bool{}, journals: map[string][]string{}, visitors: map[string][]string{}, struck: map[string][]time.Time{}, created: map[string]bool{}, made: map[string]int{}}
}

// mark notes that the build goes on. t.mu is held.
func (t *track) mark() { t.marks = append(t.marks, time.Now()) }

// machine returns the machine that was launched last.
func (t *track) machine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.machines) == 0 {
		return ""
	}
	return t.machines[len(t.machines)-1]
}

// reached tells whether the moment has come. What is past counts, too: machines
// may be quicker than who watches them.
func (t *track) reached(m Moment) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Call != "" {
		return t.calls[m.Call] >= m.Nth
	}
	for _, lines := range t.journals {
		script, line := at(lines)
		if script > m.Script || script == m.Script && line >= m.Line {
			return true
		}
	}
	return false
}

// at is how far a journal has come.
func at(journal []string) (script, line int) {
	if len(journal) == 0 {
		return 0, 0
	}
	e, ok := parse(journal[len(journal)-1])
	if !ok {
		return 0, 0
	}
	return e.script, e.line
}

// A watcher looks at all builds that run.
type watcher struct {
	site *site.Site
	// recent are the last entries of the record, by their number: localcloud takes
	// back what it has written down, but not done, when it was killed.
	recent map[uint64]record.Entry

	mu     sync.Mutex
	tracks map[string]*track // by access key
}

func newWatcher(s *site.Site) *watcher {
	return &watcher{site: s, recent: map[uint64]record.Entry{}, tracks: map[string]*track{}}
}

func (w *watcher) add(t *track) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tracks[t.recipe.Key] = t
}

func (w *watcher) remove(t *track) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tracks, t.recipe.Key)
}

// running returns the builds that run.
func (w *watcher) running() []*track {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.tracks))
}

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	r := recordTail{dir: w.site.Record()}
	for {
		r.read(w.seen)
		for _, t := range w.running() {
			w.look(t)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// remembered is how many entries of the record may be taken back.
const remembered = 1000

// seen takes an entry of localcloud's record.
func (w *watcher) seen(e record.Entry) {
	if e.Undone {
		if old, ok := w.recent[e.Seq]; ok {
			w.apply(old, -1)
		}
		return
	}
	w.recent[e.Seq] = e
	delete(w.recent, e.Seq-remembered)
	w.apply(e, 1)
}

// apply adds an entry to what is known of its build, or takes it back.
func (w *watcher) apply(e record.Entry, sign int) {
	w.mu.Lock()
	t := w.tracks[e.AccessKey]
	w.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Code == "" {
		t.calls[e.Action] += sign
	}
	for _, f := range e.Faults {
		t.struck[f.Rule] = append(t.struck[f.Rule], e.Time)
	}
	for _, b := range e.Builds {
		t.builds[b] = true
	}
	if len(e.Changes) > 0 {
		t.mark()
	}
	for _, c := range e.Changes {
		if c.Op != state.Created {
			continue
		}
		at := c.Region + "/" + c.ID
		t.created[at] = sign > 0
		if !strings.HasPrefix(e.Action, "Describe") { // which finds images that stand in
			t.made[c.Kind+" in "+c.Region] += sign
		}
		if c.Kind != "instance" {
			continue
		}
		t.machines = slices.DeleteFunc(t.machines, func(id string) bool { return id == c.ID })
		if sign > 0 {
			t.machines = append(t.machines, c.ID)
		}
	}
}

// look reads a build's journals and measures its log.
func (w *watcher) look(t *track) {
	t.mu.Lock()
	machines, builds := slices.Clone(t.machines), slices.Collect(maps.Keys(t.builds))
	t.mu.Unlock()
	journals, visitors := map[string][]string{}, map[string][]string{}
	for _, m := range machines {
		if lines, ok := w.notes(m, "journal"); ok {
			journals[m] = lines
		}
		if lines, ok := w.notes(m, "visits"); ok {
			visitors[m] = lines
		}
	}
	var size int64
	for _, b := range builds {
		size += sizeOf(filepath.Join(w.site.StoreDir(), "logs", b))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for m, lines := range journals {
		if len(lines) >= len(t.journals[m]) {
			t.journals[m] = lines
		}
	}
	for m, lines := range visitors {
		if len(lines) >= len(t.visitors[m]) {
			t.visitors[m] = lines
		}
	}
	if size > t.logSize {
		t.logSize = size
		t.mark()
	}
}

// notes reads what was written down on a machine's disk.
func (w *watcher) notes(machine, name string) ([]string, bool) {
	for _, upper := range w.site.Upper(machine) {
		if lines, ok := readLines(filepath.Join(upper, "home", "ubuntu", "lab", name)); ok {
			return lines, true
		}
	}
	return nil, false
}

// visits returns who was on a machine, as last seen.
func (t *track) visits(machine string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.visitors[machine]
}

// readLines returns the whole lines of a file.
func readLines(name string) ([]string, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, false
	}
	text := string(data)
	text = text[:strings.LastIndexByte(text, '\n')+1]
	if text == "" {
		return nil, true
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), true
}

func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// A recordTail follows the files of localcloud's record, whether or not it runs.
type recordTail struct {
	dir    string
	name   string
	offset int64
}

func (r *recordTail) read(f func(record.Entry)) {
	names, err := filepath.Glob(filepath.Join(r.dir, "*.jsonl"))
	if err != nil {
		return
	}
	for _, name := range names { // sorted, the oldest first
		if name < r.name {
			continue
		}
		if name > r.name {
			r.name, r.offset = name, 0
		}
		r.offset += each(name, r.offset, f)
	}
}

// each reads the whole lines behind an offset, and returns how long they are.
func each(name string, offset int64, f func(record.Entry)) (n int64) {
	file, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return 0
	}
	in := bufio.NewReader(file)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return n // half a line is still being written
		}
		n += int64(len(line))
		var e record.Entry
		if json.Unmarshal(line, &e) == nil {
			f(e)
		}
	}
}
