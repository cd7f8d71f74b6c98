// Package state keeps what localcloud knows on disk: one file, written in
// transactions, that a kill at any moment leaves consistent.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A Store is the state of one localcloud. Only one process at a time has it.
type Store struct {
	db   *bolt.DB
	lock *os.File
}

// Open opens the state below the folder dir, which it makes if there is none.
// It fails when another process has it, and names that process.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := hold(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(filepath.Join(dir, "state.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state in %s: %w", dir, err), lock.Close())
	}
	return &Store{db: db, lock: lock}, nil
}

// hold locks the file at path for as long as it is open. The kernel drops the
// lock with the process, so a killed one leaves nothing to clean up.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("state folder is not ours to write: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b, _ := os.ReadFile(path)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("state folder %s is in use by another localcloud (pid %s): stop that one, or choose another folder with -state",
				filepath.Dir(path), strings.TrimSpace(string(b)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(f.Truncate(0), write(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Close lets go of the state. It waits for transactions that are under way.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.lock.Close()) }

// View runs f on a snapshot of the state. Writes in it fail.
func (s *Store) View(f func(*Tx) error) error {
	return s.db.View(func(b *bolt.Tx) error { return run(b, f) })
}

// Update runs f and keeps what it changed, on disk, unless f fails. Updates run
// one after the other.
func (s *Store) Update(f func(*Tx) error) error {
	err := s.db.Update(func(b *bolt.Tx) error { return run(b, f) })
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("disk of the state folder is full: %w", err)
	}
	return err
}

func run(b *bolt.Tx, f func(*Tx) error) error {
	t := &Tx{bolt: b}
	if err := f(t); err != nil {
		return err
	}
	return t.err
}

// A Tx is one transaction. What goes wrong with the file itself is remembered
// and fails the transaction as a whole, so that Get, Put and List need not be
// asked each time.
type Tx struct {
	bolt    *bolt.Tx
	err     error
	lens    Lens
	touches map[string]*touch
	order   []*touch
}

// Writable tells whether the transaction may change anything.
func (t *Tx) Writable() bool { return t.bolt.Writable() }

// A Record is something that is kept: a pointer to a struct that JSON can hold.
type Record[T any] interface {
	*T
	// Kind names the kind of record; it is the same for all records of a type.
	Kind() string
	// Key returns where the record lives: region (empty for records of none) and
	// id, unique in it among records of its kind.
	Key() (region, id string)
}

// Get returns the record with the id, or nil when there is none.
func Get[T any, R Record[T]](t *Tx, region, id string) R {
	r := R(new(T))
	v := t.raw(r.Kind(), region, id)
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(v, r); err != nil {
		t.fail(fmt.Errorf("read %s %s in %s: %w", r.Kind(), id, region, err))
		return nil
	}
	return r
}

// Put keeps the record, in place of the one with its id.
func Put[T any, R Record[T]](t *Tx, r R) {
	region, id := r.Key()
	b, err := t.bolt.CreateBucketIfNotExists([]byte(r.Kind()))
	if err != nil {
		t.fail(fmt.Errorf("keep %s %s: %w", r.Kind(), id, err))
		return
	}
	v, err := json.Marshal(r)
	if err == nil {
		t.touched(r.Kind(), region, id, b.Get([]byte(region+"/"+id)), v)
		err = b.Put([]byte(region+"/"+id), v)
	}
	if err != nil {
		t.fail(fmt.Errorf("keep %s %s: %w", r.Kind(), id, err))
	}
}

// raw returns a record as the transaction is to see it.
func (t *Tx) raw(kind, region, id string) []byte {
	b := t.bolt.Bucket([]byte(kind))
	if b == nil {
		return nil
	}
	v := b.Get([]byte(region + "/" + id))
	if v != nil && t.lens != nil {
		v = t.lens(kind, region, id, v)
	}
	return v
}

// Delete forgets the record, if it is there.
func Delete[T any, R Record[T]](t *Tx, r R) {
	region, id := r.Key()
	b := t.bolt.Bucket([]byte(r.Kind()))
	if b == nil {
		return
	}
	t.touched(r.Kind(), region, id, b.Get([]byte(region+"/"+id)), nil)
	if err := b.Delete([]byte(region + "/" + id)); err != nil {
		t.fail(fmt.Errorf("forget %s %s: %w", r.Kind(), id, err))
	}
}

// List returns the region's records of a kind, ordered by id; those of all
// regions when region is "*".
func List[T any, R Record[T]](t *Tx, region string) []R {
	var list []R
	kind := R(new(T)).Kind()
	t.each(kind, region, func(in, id string, v []byte) bool {
		r := R(new(T))
		if err := json.Unmarshal(v, r); err != nil {
			t.fail(fmt.Errorf("read %s %s in %s: %w", kind, id, in, err))
			list = nil
			return false
		}
		list = append(list, r)
		return true
	})
	return list
}

// each calls f with the records of a kind as the transaction is to see them,
// ordered by region and id, until it returns false.
func (t *Tx) each(kind, region string, f func(region, id string, v []byte) bool) {
	b := t.bolt.Bucket([]byte(kind))
	if b == nil {
		return
	}
	prefix := region + "/"
	if region == "*" {
		prefix = ""
	}
	c := b.Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
		in, id, _ := strings.Cut(string(k), "/")
		if t.lens != nil {
			if v = t.lens(kind, in, id, v); v == nil {
				continue
			}
		}
		if !f(in, id, v) {
			return
		}
	}
}

func (t *Tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Holder returns the pid of the process that has the state below dir, or the
// empty string when none has. It leaves nothing behind.
func Holder(dir string) string {
	path := filepath.Join(dir, "lock")
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return ""
	}
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}
