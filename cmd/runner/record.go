//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxRecord is more than any JSON file of ours holds.
const maxRecord = 16 << 10

// checksum binds a record to the file, the command and the build that it is of:
// none can take the place of another.
func (f folder) checksum(name string, data []byte) []byte {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00", filepath.Base(filepath.Dir(f.path)), filepath.Base(f.path), name)
	sum.Write(data)
	return []byte(hex.EncodeToString(sum.Sum(nil)[:8]))
}

// read reads a JSON file; ok is false when there is none. One that was cut short
// or altered is an error. The checksum may be missing: an earlier runner, of an
// agent that was replaced meanwhile, wrote none.
func (f folder) read(name string, into any) (ok bool, err error) {
	data, err := f.slurp(name, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	damaged := func(why string) (bool, error) {
		return false, fmt.Errorf("read %s: it is damaged (%s): what became of the command cannot be told", f.file(name), why)
	}
	record, sum, _ := bytes.Cut(data, []byte("\n"))
	if len(sum) > 0 && !bytes.Equal(bytes.TrimSuffix(sum, []byte("\n")), f.checksum(name, record)) {
		return damaged("its checksum is wrong")
	}
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return damaged(err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return damaged("there is something behind it")
	}
	return true, nil
}

// slurp reads a file that must be a plain one, and short.
func (f folder) slurp(name string, limit int64) ([]byte, error) {
	file, err := f.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", file.Name(), limit)
	}
	return data, err
}

// open opens a file of the command, which must be a plain one: links are not
// followed, pipes not waited for.
func (f folder) open(name string, flags int) (*os.File, error) {
	file, err := os.OpenFile(f.file(name), flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a plain file", file.Name())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
