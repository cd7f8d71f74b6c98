package main

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// errDamaged tells that a database is not what was written.
var errDamaged = errors.New("the database is damaged")

// checkDatabase looks whether the database at path, and the journal beside it
// (what was acknowledged since the last checkpoint), are whole. SQLite itself
// would find out in the middle of a build, or leave out a part of the journal
// without a word.
func checkDatabase(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 16)
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, []byte("SQLite format 3\x00")) {
		// An empty file is a new database to SQLite.
		return fmt.Errorf("%w: it does not begin as one", errDamaged)
	}
	if err := checkJournal(path + "-wal"); err != nil {
		return err
	}
	// Only to read: what is damaged stays as it is, for who can mend it.
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	var found string
	err = db.QueryRow("PRAGMA quick_check(1)").Scan(&found)
	var said *sqlite.Error
	switch {
	case errors.As(err, &said) && (said.Code()&0xff == sqlitelib.SQLITE_CORRUPT || said.Code()&0xff == sqlitelib.SQLITE_NOTADB):
		return fmt.Errorf("%w: %w", errDamaged, err)
	case err != nil:
		return fmt.Errorf("check the database: %w", err)
	case found != "ok":
		return fmt.Errorf("%w: %s", errDamaged, found)
	}
	return nil
}

// A journal of SQLite (https://sqlite.org/fileformat2.html#walformat) is a head
// and frames, one for each page that was written. Checksums run on from frame
// to frame; SQLite takes the first that is wrong for the end.
const (
	journalHead = 32
	frameHead   = 24
)

// checkJournal refuses a journal with a wrong checksum before its end: where two
// or more commits stand behind it, at least one of them had been acknowledged.
// With one or none, it is the transaction that a power cut ended.
func checkJournal(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < journalHead+frameHead {
		return err // nothing in it was ever committed
	}
	head := make([]byte, journalHead)
	if _, err := io.ReadFull(f, head); err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[3]&1 == 1 {
		order = binary.BigEndian
	}
	size := int(binary.BigEndian.Uint32(head[8:]))
	if size < 512 || size > 65536 || size&(size-1) != 0 {
		return fmt.Errorf("%w: its journal says that a page has %d bytes", errDamaged, size)
	}
	salt := head[16:24]
	s := sum(order, [2]uint32{}, head[:24])
	right := s == read(head[24:]) && binary.BigEndian.Uint32(head)&^1 == 0x377f0682
	if !right {
		salt = nil // any: the frames tell, whether there was something
	}
	commits := 0
	frame := make([]byte, frameHead+size)
	for n := 1; ; n++ {
		if _, err := io.ReadFull(f, frame); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
		if salt == nil {
			salt = bytes.Clone(frame[8:16])
		}
		if right && bytes.Equal(frame[8:16], salt) {
			next := sum(order, sum(order, s, frame[:8]), frame[frameHead:])
			if right = next == read(frame[16:]); right {
				s = next
				continue
			}
		}
		right = false
		if binary.BigEndian.Uint32(frame[4:]) != 0 {
			commits++
		}
		// Frames of an earlier turn of the journal, with another salt, stand behind
		// all of this one's.
		if commits > 1 && bytes.Equal(frame[8:16], salt) {
			return fmt.Errorf("%w: its journal %s has a wrong checksum before frame %d", errDamaged, path, n)
		}
	}
}

// read reads a checksum.
func read(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// sum goes on with a checksum.
func sum(order binary.ByteOrder, s [2]uint32, data []byte) [2]uint32 {
	for ; len(data) >= 8; data = data[8:] {
		s[0] += order.Uint32(data) + s[1]
		s[1] += order.Uint32(data[4:]) + s[0]
	}
	return s
}
