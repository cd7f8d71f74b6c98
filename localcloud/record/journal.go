package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Config says where a Journal is and how long it gets.
type Config struct {
	// Dir is its folder, made if there is none. It belongs to one Journal at a
	// time; the caller sees to that.
	Dir string
	// FileSize is how many bytes a file gets before the next is begun. Zero: 8 MiB.
	FileSize int64
	// Files is how many files are kept, of which the oldest go. Zero: 8.
	Files int
}

// A Journal is an open record. Its methods may be called at the same time.
type Journal struct {
	config Config

	mu   sync.Mutex
	file *os.File
	size int64
	seq  uint64 // of the last entry
	err  error  // the file is in an unknown state
}

// Open opens the journal and cuts off a last line that a killed process has
// left half-written. mark is the number up to which the state has what the
// entries tell of: later ones with changes are taken back.
func Open(c Config, mark uint64) (*Journal, error) {
	if c.FileSize == 0 {
		c.FileSize = 8 << 20
	}
	if c.Files == 0 {
		c.Files = 8
	}
	j := &Journal{config: c}
	if err := j.open(mark); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return j, nil
}

func (j *Journal) open(mark uint64) error {
	if err := os.MkdirAll(j.config.Dir, 0o700); err != nil {
		return err
	}
	names, err := j.files()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := mend(names[len(names)-1]); err != nil {
			return err
		}
	}
	j.seq = mark
	var open []uint64
	undone := map[uint64]bool{}
	// Numbers grow from file to file, so the last two have all that is recent:
	// the newest may have just been begun.
	for _, name := range names[max(0, len(names)-2):] {
		err := read(name, func(e Entry) bool {
			j.seq = max(j.seq, e.Seq)
			switch {
			case e.Undone:
				undone[e.Seq] = true
			case e.Seq > mark && len(e.Changes) > 0:
				open = append(open, e.Seq)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	name := filepath.Join(j.config.Dir, fileName(j.seq+1))
	if len(names) > 0 {
		name = names[len(names)-1]
	}
	if err := j.begin(name); err != nil {
		return err
	}
	for _, seq := range open {
		if undone[seq] {
			continue
		}
		if err := j.Undo(seq); err != nil {
			return err
		}
	}
	return nil
}

func fileName(seq uint64) string { return fmt.Sprintf("%020d.jsonl", seq) }

// files lists the journal's files, the oldest first.
func (j *Journal) files() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(j.config.Dir, "*.jsonl"))
	slices.Sort(names)
	return names, err
}

// mend cuts off what follows the last line break.
func mend(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	whole := int64(bytes.LastIndexByte(b, '\n') + 1)
	if whole == int64(len(b)) {
		return nil
	}
	return os.Truncate(name, whole)
}

// begin goes on with a file.
func (j *Journal) begin(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if j.file != nil {
		_ = j.file.Close() // every line was written by itself: nothing is pending
	}
	j.file, j.size = f, info.Size()
	return nil
}

// Append gives the entry its number and writes it. It is on record once Append
// returns, whatever becomes of the process, but not of the machine: nothing is
// synced.
func (j *Journal) Append(e Entry) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Seq = j.seq + 1
	if err := j.write(e); err != nil {
		return 0, fmt.Errorf("record: %w", err)
	}
	j.seq = e.Seq
	return e.Seq, nil
}

// Undo takes an entry back: what it tells of never happened.
func (j *Journal) Undo(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(Entry{Seq: seq, Undone: true}); err != nil {
		return fmt.Errorf("record: take back %d: %w", seq, err)
	}
	return nil
}

func (j *Journal) write(e Entry) error {
	if j.err != nil {
		return j.err
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if j.size >= j.config.FileSize && !e.Undone {
		if err := j.rotate(e.Seq); err != nil {
			return err
		}
	}
	n, err := j.file.Write(append(b, '\n'))
	if err != nil && n > 0 {
		// Half a line would swallow the next one.
		if e := j.file.Truncate(j.size); e != nil {
			j.err = errors.Join(err, e)
		}
		return err
	}
	j.size += int64(n)
	return err
}

func (j *Journal) rotate(seq uint64) error {
	if err := j.begin(filepath.Join(j.config.Dir, fileName(seq))); err != nil {
		return err
	}
	names, err := j.files()
	if err != nil {
		return err
	}
	for _, old := range names[:max(0, len(names)-j.config.Files)] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}

// Read calls f with the entries that pass, the oldest first, until it returns
// false. Entries that were taken back are left out. What is written meanwhile
// may be left out, too.
func (j *Journal) Read(filter Filter, f func(Entry) bool) error {
	names, err := j.files()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	undone := map[uint64]bool{}
	var list []Entry
	for _, name := range names {
		err := read(name, func(e Entry) bool {
			switch {
			case e.Undone:
				undone[e.Seq] = true
			case filter.Pass(e):
				list = append(list, e)
			}
			return true
		})
		if errors.Is(err, os.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
	}
	list = slices.DeleteFunc(list, func(e Entry) bool { return undone[e.Seq] })
	if filter.Last > 0 {
		list = list[max(0, len(list)-filter.Last):]
	}
	for _, e := range list {
		if !f(e) {
			break
		}
	}
	return nil
}

// read calls f with the entries of a file until it returns false. A last line
// without an end is still being written.
func read(name string, f func(Entry) bool) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 64<<10)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		if !f(e) {
			return nil
		}
	}
}

// Close lets go of the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
