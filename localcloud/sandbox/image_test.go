package sandbox_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/bakehouse-farm/bakehouse"
)

// capability is security.capability for cap_net_raw+ep.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// tinyRoot is the least of images: a shell and its libraries, from the host.
func tinyRoot(t *testing.T) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	when := time.Unix(1600000000, 0)
	add := func(h tar.Header, text []byte) {
		h.Size, h.ModTime, h.Format = int64(len(text)), when, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"./", "bin/", "etc/", "lib/", "lib64/", "root/", "usr/bin/", "tmp/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/sh", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, read("/bin/sh"))
	ldd := mustRun(t, "ldd", "/bin/sh")
	for word := range strings.FieldsSeq(ldd) {
		if strings.HasPrefix(word, "/") {
			add(tar.Header{Typeflag: tar.TypeReg, Name: word[1:], Mode: 0o755}, read(word))
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nsudo:x:27:user\nuser:x:1000:\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/owned", Mode: 0o4640, Uid: 7, Gid: 8}, []byte("owned"))
	add(tar.Header{Typeflag: tar.TypeLink, Name: "etc/linked", Linkname: "etc/owned"}, nil)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/symbolic", Linkname: "/nowhere/at/all"}, nil)
	add(tar.Header{Typeflag: tar.TypeChar, Name: "etc/device", Devmajor: 1, Devminor: 3}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// An imported image boots, though it has neither sudo nor scp nor an sshd, and
// what is baked of it can be exported and imported again.
func TestImageRoundTrip(t *testing.T) {
	h := newHost(t)
	if err := h.ImportLayer(t.Context(), "base", tinyRoot(t)); err != nil {
		t.Fatal(err)
	}
	l := newSpec(t, h, "i-tiny", "base")
	boot(t, h, l)
	if got := l.sh(t, "user", `sudo sh -c 'echo $USER > /etc/baked'; read x < /etc/baked; echo $x`); got != "root" {
		t.Errorf("%q", got)
	}
	cmd, err := h.Command(t.Context(), "i-tiny", []string{"sh", "-c", "echo $HOME; exit 5"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if string(out) != "/root\n" || !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("command: %q, %v", out, err)
	}
	if err := h.Stop(t.Context(), "i-tiny"); err != nil {
		t.Fatal(err)
	}
	if err := h.Freeze(t.Context(), "i-tiny", "baked"); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := h.Export(t.Context(), []string{"baked", "base"}, &first); err != nil {
		t.Fatal(err)
	}
	if err := h.ImportLayer(t.Context(), "again", bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := h.Export(t.Context(), []string{"again"}, &second); err != nil {
		t.Fatal(err)
	}
	a, b := contents(t, &first), contents(t, &second)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("exported, imported and exported (-first +second):\n%s", diff)
	}
	for name, want := range map[string]tar.Header{
		"./etc/owned":    {Mode: 0o4640, Uid: 7, Gid: 8, Size: 5, Typeflag: tar.TypeReg},
		"./etc/symbolic": {Mode: 0o777, Linkname: "/nowhere/at/all", Typeflag: tar.TypeSymlink},
	} {
		got := a[name]
		if got.Typeflag == tar.TypeLink { // whichever of the two came first
			got = a[got.Linkname]
		}
		if got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid || got.Size != want.Size || got.Linkname != want.Linkname {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := a["./bin/sh"].PAXRecords["SCHILY.xattr.security.capability"]; got != capability {
		t.Errorf("capability %q", got)
	}
	if a["./etc/baked"].Size != 5 {
		t.Error("what was baked is not in the export")
	}
	for name := range a {
		if strings.Contains(name, "device") || strings.HasSuffix(name, "reboot") || strings.HasSuffix(name, "sudo") || strings.Contains(name, "ssh_host") {
			t.Errorf("the export has %s", name)
		}
	}
}

// contents reads a tarball's headers, without their order. Names of the
// hostname's file differ by instance only.
func contents(t *testing.T, r io.Reader) map[string]tar.Header {
	t.Helper()
	all := map[string]tar.Header{}
	for tr := tar.NewReader(bytes.NewReader(readAll(t, r))); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		for k := range h.PAXRecords {
			if !strings.HasPrefix(k, "SCHILY.xattr.") {
				delete(h.PAXRecords, k)
			}
		}
		all[h.Name] = *h
	}
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every usual compression is told by its first bytes; what is none is refused,
// and leaves nothing.
func TestImportFormats(t *testing.T) {
	h := newHost(t)
	plain := readAll(t, tinyRoot(t))
	pack := map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	}
	for name, open := range pack {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.ImportLayer(t.Context(), name, &b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	one := func(h tar.Header, text string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Size, h.Mode = int64(len(text)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
		w.Flush()
		return b.Bytes()
	}
	outside := t.TempDir()
	bad := map[string][]byte{
		"nothing": {}, "noise": []byte(strings.Repeat("noise", 300)), "cut off": plain[:len(plain)/2],
		"dots":      one(tar.Header{Name: "../escape"}, "x"),
		"link out":  append(one(tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, ""), one(tar.Header{Name: "out/escape"}, "x")...),
		"hard link": one(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../../../etc/shadow"}, ""),
	}
	for name, b := range bad {
		if err := h.ImportLayer(t.Context(), "bad", bytes.NewReader(b)); bakehouse.KindOf(err) != bakehouse.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(outside, "*")); len(left) > 0 {
		t.Errorf("escaped: %v", left)
	}
	if got, err := h.Layers(); err != nil || !cmp.Equal(got, []string{"gzip", "xz", "zstd"}) {
		t.Errorf("layers %v, %v", got, err)
	}
}
