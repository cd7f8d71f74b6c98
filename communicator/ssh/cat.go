package ssh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"

	xssh "golang.org/x/crypto/ssh"
)

// catFiles moves files by the shell, for machines without sftp.
type catFiles struct{ *link }

// sh runs a script of sh, whatever the login shell is.
func (c catFiles) sh(ctx context.Context, in io.Reader, script string) ([]byte, error) {
	r, out, err := c.exec(ctx, "/bin/sh -c "+quote(script), false, in)
	return out, ok(r, out, err)
}

func (c catFiles) put(ctx context.Context, name string, r io.Reader, mode fs.FileMode) error {
	// A connection that is lost looks like the end of the file to cat: so the
	// file gets its name by a call of its own, and only when cat was told the end.
	// A new file, not the one that is there: who was cut off may still write to it.
	name = dashed(name)
	_, err := c.sh(ctx, r, fmt.Sprintf("umask 077; rm -f %s; set -C; cat > %[1]s && chmod %o %[1]s", quote(name), mode))
	return err
}

func (c catFiles) overwrite(ctx context.Context, name string, r io.Reader, _ fs.FileMode) error {
	_, err := c.sh(ctx, r, "cat > "+quote(dashed(name)))
	return err
}

func (c catFiles) replace(ctx context.Context, from, to string) error {
	_, err := c.sh(ctx, nil, "mv -f "+quote(dashed(from))+" "+quote(dashed(to)))
	return err
}

func (c catFiles) remove(ctx context.Context, name string) error {
	_, err := c.sh(ctx, nil, "rm -f "+quote(dashed(name)))
	return err
}

func (c catFiles) mkdir(ctx context.Context, name string) error {
	_, err := c.sh(ctx, nil, "mkdir -p "+quote(dashed(name)))
	return err
}

func (c catFiles) resolve(ctx context.Context, name string) (string, bool, error) {
	q := quote(dashed(name))
	out, err := c.sh(ctx, nil, fmt.Sprintf(
		"if test -L %[1]s; then r=$(readlink -f %[1]s) || exit 1; else r=%[1]s; fi; "+
			`if test -d "$r"; then k=d; elif test -f "$r" || ! test -e "$r"; then k=f; else k=o; fi; printf "%%s %%s" $k "$r"`, q))
	if err != nil {
		return name, false, err
	}
	kind, real, _ := strings.Cut(string(out), " ")
	if kind == "d" {
		return name, false, fmt.Errorf("%s is a folder", name)
	}
	return real, kind == "f", nil
}

func (c catFiles) get(ctx context.Context, name string, w io.Writer) error {
	q := quote(dashed(name))
	if out, err := c.sh(ctx, nil, fmt.Sprintf("test -e %[1]s && echo there; test -d %[1]s && echo folder; :", q)); err != nil {
		return err
	} else if !bytes.Contains(out, []byte("there")) {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	} else if bytes.Contains(out, []byte("folder")) {
		return fmt.Errorf("%s is a folder", name)
	}
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	defer func() { go s.Close() }()
	complaint := buffer{limit: maxComplaint}
	out := &telling{to: w, failed: make(chan error, 1)}
	s.Stdout, s.Stderr = out, &complaint
	ended := make(chan error, 1)
	go func() { ended <- s.Run("/bin/sh -c " + quote("cat "+q)) }()
	select {
	case err = <-ended:
	case err := <-out.failed: // cat itself would wait for ever to be read on
		return err
	case <-c.dead:
		<-ended
		return fmt.Errorf("connection is gone")
	}
	if exit, isExit := err.(*xssh.ExitError); isExit {
		return fmt.Errorf("exit status %d: %s", exit.ExitStatus(), said(complaint.bytes()))
	}
	return err
}

// telling tells the first error of the writer it writes to.
type telling struct {
	to     io.Writer
	failed chan error // with room for one
}

func (t *telling) Write(p []byte) (int, error) {
	n, err := t.to.Write(p)
	if err != nil {
		select {
		case t.failed <- err:
		default:
		}
	}
	return n, err
}

func (c catFiles) list(ctx context.Context, name string) (dirs, files []string, err error) {
	out, err := c.sh(ctx, nil, fmt.Sprintf(
		`cd %s && find . -type d -exec printf "d%%s\0" {} + && find . ! -type d -exec sh -c %s sh {} +`,
		quote(dashed(name)), quote(`for f; do test ! -f "$f" || printf "f%s\0" "$f"; done`)))
	if err != nil {
		return nil, nil, err
	}
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		kind, rel := entry[:min(1, len(entry))], strings.TrimPrefix(entry[min(1, len(entry)):], "./")
		switch {
		case rel == "." || rel == "":
		case kind == "d":
			dirs = append(dirs, rel)
		default:
			files = append(files, rel)
		}
	}
	return dirs, files, nil
}

// dashed keeps a name from being taken for an option.
func dashed(name string) string {
	if strings.HasPrefix(name, "-") {
		return "./" + name
	}
	return name
}
