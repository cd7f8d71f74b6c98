package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scpCall is the far side of an scp: what sshd starts for a client.
type scpCall struct {
	to, from         bool // -t, -f
	recursive, times bool // -r, -p
	mustBeFolder     bool // -d
	paths            []string
	in               *bufio.Reader
	out              *os.File
	failed           bool
}

// scp is the scp of instances whose image has none: its far side only.
func scp(args []string) error {
	c := scpCall{in: bufio.NewReader(os.Stdin), out: os.Stdout}
	for i, a := range args {
		if a == "--" {
			c.paths = append(c.paths, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(a, "-") {
			c.paths = append(c.paths, a)
			continue
		}
		for _, l := range a[1:] {
			switch l {
			case 't':
				c.to = true
			case 'f':
				c.from = true
			case 'r':
				c.recursive = true
			case 'p':
				c.times = true
			case 'd':
				c.mustBeFolder = true
			case 'v', 'q', 'B', 'C':
			default:
				return fmt.Errorf("option -%c is not supported here", l)
			}
		}
	}
	var err error
	switch {
	case c.to == c.from:
		return errors.New("this scp only serves clients (-t or -f)")
	case c.to && len(c.paths) != 1:
		err = errors.New("one target, please")
	case c.to:
		err = c.sink(c.paths[0])
	default:
		err = c.source()
	}
	if err != nil {
		c.complain(err)
	}
	if err != nil || c.failed {
		os.Exit(1)
	}
	return nil
}

// complain tells the other side of an error; the transfer goes on.
func (c *scpCall) complain(err error) {
	c.failed = true
	fmt.Fprintf(c.out, "\x01scp: %v\n", err)
}

func (c *scpCall) ok() error {
	_, err := c.out.Write([]byte{0})
	return err
}

// answer reads the other side's verdict: nil, or its words.
func (c *scpCall) answer() error {
	b, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	if b == 0 {
		return nil
	}
	text, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	if b == 2 {
		return fmt.Errorf("the other side gave up: %s", strings.TrimSpace(text))
	}
	c.failed = true
	return errSkipped
}

var errSkipped = errors.New("refused by the other side")

// sink receives files into target.
func (c *scpCall) sink(target string) error {
	info, err := os.Stat(target)
	isFolder := err == nil && info.IsDir()
	if c.mustBeFolder && !isFolder {
		return fmt.Errorf("%s: not a directory", target)
	}
	if err := c.ok(); err != nil {
		return err
	}
	return c.receive(target, isFolder, true)
}

func (c *scpCall) receive(target string, isFolder, top bool) error {
	var mtime, atime time.Time
	for {
		line, err := c.in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" && top {
			return nil
		}
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return errors.New("protocol: empty line")
		}
		switch line[0] {
		case 'T':
			f := strings.Fields(line[1:])
			if len(f) != 4 {
				return fmt.Errorf("protocol: %q", line)
			}
			mtime, atime = time.Unix(int64(atoi(f[0])), 0), time.Unix(int64(atoi(f[2])), 0)
			if err := c.ok(); err != nil {
				return err
			}
			continue
		case 'E':
			if top {
				return errors.New("protocol: unexpected end of folder")
			}
			return c.ok()
		case 1, 2:
			c.failed = true
			if line[0] == 2 {
				return errors.New(line[1:])
			}
			continue
		case 'C', 'D':
			if err := c.receiveOne(line, target, isFolder, mtime, atime); err != nil {
				return err
			}
			mtime, atime = time.Time{}, time.Time{}
		default:
			return fmt.Errorf("protocol: %q", line)
		}
	}
}

func (c *scpCall) receiveOne(line, target string, isFolder bool, mtime, atime time.Time) error {
	f := strings.SplitN(line[1:], " ", 3)
	if len(f) != 3 {
		return fmt.Errorf("protocol: %q", line)
	}
	mode, err := strconv.ParseUint(f[0], 8, 32)
	if err != nil {
		return fmt.Errorf("protocol: mode %q", f[0])
	}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size < 0 {
		return fmt.Errorf("protocol: size %q", f[1])
	}
	name := f[2]
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("protocol: name %q", name)
	}
	at := target
	if isFolder {
		at = filepath.Join(target, name)
	}
	perm := fs.FileMode(mode) & fs.ModePerm
	if line[0] == 'D' {
		if !c.recursive {
			return errors.New("received a folder without -r")
		}
		if err := os.Mkdir(at, perm|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := c.ok(); err != nil {
			return err
		}
		if err := c.receive(at, true, false); err != nil {
			return err
		}
		if c.times {
			if err := os.Chmod(at, perm); err != nil {
				c.complain(err)
			}
		}
		return setTimes(at, mtime, atime)
	}
	out, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		c.complain(err) // the client skips this file's content
		return nil
	}
	defer out.Close()
	if err := c.ok(); err != nil {
		return err
	}
	_, writeErr := io.CopyN(out, c.in, size)
	if writeErr != nil {
		// The rest must be read, or it would be taken for the protocol.
		return writeErr
	}
	if c.times {
		writeErr = out.Chmod(perm)
	}
	writeErr = errors.Join(writeErr, out.Close(), setTimes(at, mtime, atime))
	if err := c.answer(); err != nil {
		return err
	}
	if writeErr != nil {
		c.complain(writeErr)
		return nil
	}
	return c.ok()
}

func setTimes(path string, mtime, atime time.Time) error {
	if mtime.IsZero() {
		return nil
	}
	return os.Chtimes(path, atime, mtime)
}

// source sends the files.
func (c *scpCall) source() error {
	if err := c.answer(); err != nil {
		return err
	}
	for _, pattern := range c.paths {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			found = []string{pattern}
		}
		for _, p := range found {
			if err := c.send(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// send returns an error only when the connection cannot go on.
func (c *scpCall) send(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		c.complain(err)
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		c.complain(err)
		return nil
	}
	switch {
	case info.IsDir() && !c.recursive, !info.IsDir() && !info.Mode().IsRegular():
		c.complain(fmt.Errorf("%s: not a regular file", path))
		return nil
	}
	if c.times {
		fmt.Fprintf(c.out, "T%d 0 %d 0\n", info.ModTime().Unix(), info.ModTime().Unix())
		if err := c.skipped(c.answer()); err != nil {
			return err
		}
	}
	name := filepath.Base(path)
	if info.IsDir() {
		return c.sendFolder(f, path, name, info)
	}
	fmt.Fprintf(c.out, "C%04o %d %s\n", info.Mode().Perm(), info.Size(), name)
	if err := c.answer(); err != nil {
		return c.skipped(err)
	}
	if _, err := io.CopyN(c.out, f, info.Size()); err != nil {
		return err // the other side waits for bytes that are not there
	}
	if err := c.ok(); err != nil {
		return err
	}
	return c.skipped(c.answer())
}

func (c *scpCall) sendFolder(f *os.File, path, name string, info fs.FileInfo) error {
	entries, err := f.ReadDir(-1)
	if err != nil {
		c.complain(err)
		return nil
	}
	fmt.Fprintf(c.out, "D%04o 0 %s\n", info.Mode().Perm(), name)
	if err := c.answer(); err != nil {
		return c.skipped(err)
	}
	for _, e := range entries {
		if err := c.send(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	fmt.Fprint(c.out, "E\n")
	return c.skipped(c.answer())
}

func (c *scpCall) skipped(err error) error {
	if errors.Is(err, errSkipped) {
		return nil
	}
	return err
}
