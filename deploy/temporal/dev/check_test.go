package main

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// written makes a database with a journal as a server that was killed leaves
// them: n transactions, none of which has reached the database proper.
func written(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), databaseName)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=wal_autocheckpoint(0)&_pragma=synchronous(2)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(q string) {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE builds (id INTEGER PRIMARY KEY, state TEXT)")
	exec("CREATE INDEX by_state ON builds (state)")
	exec("WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v+1 FROM n WHERE v < 500) INSERT INTO builds SELECT v, printf('%0200d', v) FROM n")
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
	for i := range n {
		exec(fmt.Sprintf("INSERT INTO builds VALUES (%d, 'fresh')", 1000+i))
	}
	// A copy, as closing would write the journal into the database.
	copied := filepath.Join(t.TempDir(), databaseName)
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + end)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+end, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// fresh tells how many transactions of the journal a database holds.
func fresh(t *testing.T, path string) int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("SELECT count(*) FROM builds WHERE id >= 1000").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAWholeDatabaseIsAccepted(t *testing.T) {
	for _, n := range []int{0, 1, 10} {
		path := written(t, n)
		if err := checkDatabase(path); err != nil {
			t.Errorf("%d transactions: %v", n, err)
		}
		if got := fresh(t, path); got != n {
			t.Errorf("%d of %d transactions are left", got, n)
		}
	}
}

func TestADamagedDatabaseIsRefused(t *testing.T) {
	path := written(t, 0)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, bad []byte) {
		t.Helper()
		at := filepath.Join(t.TempDir(), databaseName)
		if err := os.WriteFile(at, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkDatabase(at); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("empty", nil)
	refused("text", []byte("no database"))
	for n := 1; n < len(good); n += 4096 {
		refused(fmt.Sprintf("cut to %d of %d bytes", n, len(good)), good[:n])
	}
	for page := 1; page < len(good)/4096; page++ {
		bad := bytes.Clone(good)
		copy(bad[page*4096:], bytes.Repeat([]byte{0xaa}, 4096))
		refused(fmt.Sprintf("page %d overwritten", page+1), bad)
	}
}

// Of what was acknowledged and is still in the journal, nothing is lost without
// a word; what a power cut ended is.
func TestADamagedJournalIsRefused(t *testing.T) {
	const n = 6
	path := written(t, n)
	good, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	frames := (len(good) - journalHead) / (frameHead + 4096)
	if frames < n {
		t.Fatalf("%d frames in %d bytes", frames, len(good))
	}
	start := func(frame int) int { return journalHead + frame*(frameHead+4096) }
	try := func(bad []byte) (error, int) {
		t.Helper()
		at := filepath.Join(t.TempDir(), databaseName)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(at, data, 0o600), os.WriteFile(at+"-wal", bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := checkDatabase(at); err != nil {
			return err, 0
		}
		return nil, fresh(t, at)
	}
	for at := 0; at < len(good); at++ {
		if at >= journalHead && at%977 != 0 && at%(frameHead+4096) > journalHead+frameHead {
			continue // heads whole, pages here and there
		}
		bad := bytes.Clone(good)
		bad[at] ^= 8
		err, left := try(bad)
		// The last transaction may look as if a power cut had ended it.
		if !errors.Is(err, errDamaged) && left < n-1 {
			t.Errorf("byte %d of %d altered: %v, %d of %d transactions are left", at, len(good), err, left, n)
		}
	}
	for frame := range frames {
		for _, end := range []int{start(frame), start(frame) + 10, start(frame) + 2000} {
			if err, _ := try(good[:end]); err != nil {
				t.Errorf("a journal that ends in frame %d: %v", frame, err)
			}
		}
	}
}

// A server that finds its database damaged says so, with what to do, and leaves
// it as it is.
func TestAServerRefusesADamagedDatabase(t *testing.T) {
	state := t.TempDir()
	args := []string{"-state", state, "-listen", "127.0.0.1:0", "-no-ui"}
	launch(t, args...).kill()
	path := filepath.Join(state, databaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"cut short": good[:len(good)/2], "empty": nil,
		"overwritten": append(append(bytes.Clone(good[:8192]), bytes.Repeat([]byte{0xff}, 64<<10)...), good[8192+64<<10:]...),
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, args, state, "the database is damaged", "put back a copy", "bakehouse:build")
			if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, bad) {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, args...).kill()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused(t, args, path, "is gone")
}
