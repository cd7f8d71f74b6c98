package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

func newStore(t *testing.T) (*bundle.Store, string) {
	t.Helper()
	dir := t.TempDir()
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.OpenBucket(t.Context(), "file://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return bundle.New(b, keys), dir
}

// write makes files below dir: a name that ends in / is a folder, a content
// that begins with -> a link, one that begins with #! is executable.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		parent := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			parent = path
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, isLink := strings.CutPrefix(content, "->")
		switch {
		case strings.HasSuffix(name, "/"):
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasPrefix(content, "#!"):
			err = os.WriteFile(path, []byte(content), 0o755)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree is the inverse of write.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			if list, err := os.ReadDir(path); err != nil || len(list) > 0 {
				return err
			}
			out[name+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			out[name] = "->" + target
			return err
		default:
			b, err := os.ReadFile(path)
			out[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pack(t *testing.T, s *bundle.Store, cwd string, paths ...string) (bundle.Digest, bundle.Stats) {
	t.Helper()
	d, stats, err := s.Pack(t.Context(), bakehouse.Files{Cwd: cwd}, paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, stats
}

func unpack(t *testing.T, s *bundle.Store, d bundle.Digest, cache string) string {
	t.Helper()
	root, err := s.Unpack(t.Context(), d, cache)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestWhatIsPackedIsUnpacked(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	files := map[string]string{
		"web.pkr.hcl": "build {}", "empty": "", "empty-folder/": "", "scripts/run.sh": "#!/bin/sh\n",
		"scripts/same": "build {}", "latest": "->scripts/run.sh", "dangling": "->nowhere",
		"scripts/up": "->..", "name with ü and\nline": "x",
	}
	write(t, dir, files)
	write(t, dir, map[string]string{".git/HEAD": "ref", "sub/.git": "gitdir", "sub/file": "y"})
	if err := os.WriteFile(filepath.Join(dir, "id_rsa"), []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, stats := pack(t, s, dir, ".")
	root := unpack(t, s, d, t.TempDir())
	want := maps.Clone(files)
	want["sub/file"], want["id_rsa"] = "y", "key"
	if diff := cmp.Diff(want, tree(t, filepath.Join(root, dir))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if stats.Files != 7 || stats.Bytes != 8+0+10+8+1+1+3 || stats.Uploaded == 0 {
		t.Errorf("stats: %+v", stats)
	}
	for name, mode := range map[string]fs.FileMode{"scripts/run.sh": 0o755, "web.pkr.hcl": 0o644, "id_rsa": 0o600} {
		info, err := os.Stat(filepath.Join(root, dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestOnlyWhatIsMissingTravels(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	big := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(big)
	write(t, dir, map[string]string{"a": string(big), "b": "one"})
	first, stats := pack(t, s, dir, ".")
	if stats.Uploaded < int64(len(big)) {
		t.Fatalf("first: %+v", stats)
	}
	if err := os.Chtimes(filepath.Join(dir, "b"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	again, stats := pack(t, s, dir, ".")
	if again != first || stats.Uploaded != 0 {
		t.Errorf("the same again: %s, not %s; %+v", again, first, stats)
	}
	write(t, dir, map[string]string{"b": "two"})
	changed, stats := pack(t, s, dir, ".")
	if changed == first || stats.Uploaded == 0 || stats.Uploaded > 10_000 {
		t.Errorf("changed: %+v", stats)
	}
}

func TestBigFilesTravelInParts(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	for _, size := range []int{8<<20 - 1, 8 << 20, 8<<20 + 1, 20 << 20} {
		content := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(size)}).Read(content)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(size)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, _ := pack(t, s, dir, ".")
	root := unpack(t, s, d, t.TempDir())
	if !cmp.Equal(tree(t, dir), tree(t, filepath.Join(root, dir))) {
		t.Error("content differs")
	}
}

func TestNamedPaths(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	write(t, dir, map[string]string{
		"home/.ssh/id": "key", "work/a.sh": "#!a", "elsewhere/real/b.sh": "#!b", "work/link": "->../elsewhere/real",
		"work/not-named": "x", "elsewhere/other": "x",
	})
	files := bakehouse.Files{Cwd: filepath.Join(dir, "work"), Home: home}
	paths := []string{"a.sh", "~/.ssh/id", "link/b.sh", filepath.Join(dir, "elsewhere/real/b.sh")}
	d, _, err := s.Pack(t.Context(), files, paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	root := unpack(t, s, d, t.TempDir())
	there := bakehouse.Files{Root: root, Cwd: files.Cwd, Home: files.Home}
	for _, name := range paths {
		want, err1 := os.ReadFile(files.Path(name))
		got, err2 := os.ReadFile(there.Path(name))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, not %q: %v", name, got, want, err)
		}
	}
	for _, name := range []string{"not-named", "../elsewhere/other"} {
		if _, err := os.Stat(there.Path(name)); err == nil {
			t.Errorf("%s was packed", name)
		}
	}
}

func TestSkip(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "x", "packer-manifest.json": "x", "out/disk": "x"})
	d, _, err := s.Pack(t.Context(), bakehouse.Files{Cwd: dir}, []string{"."}, func(abs string) bool {
		return abs == filepath.Join(dir, "packer-manifest.json") || abs == filepath.Join(dir, "out")
	})
	if err != nil {
		t.Fatal(err)
	}
	root := unpack(t, s, d, t.TempDir())
	if diff := cmp.Diff(map[string]string{"a": "x"}, tree(t, filepath.Join(root, dir))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Nothing in the folder of a bundle may lead out of it, or a template could
// read the files of the agent.
func TestLinksStayInTheBundle(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	up := strings.Repeat("../", 40)
	write(t, dir, map[string]string{
		"secret": "of the submitter", "absolute": "->" + filepath.Join(dir, "secret"),
		"climbs": "->" + up + strings.TrimPrefix(filepath.Join(dir, "secret"), "/"),
		"gone":   "->/no/such/file", "t/": "", "t/loop": "->loop",
	})
	d, _ := pack(t, s, dir, ".")
	root := unpack(t, s, d, t.TempDir())
	if err := os.Remove(filepath.Join(dir, "secret")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := os.Readlink(path)
		if to := filepath.Join(filepath.Dir(path), target); err != nil || filepath.IsAbs(target) || !strings.HasPrefix(to, root+"/") {
			t.Errorf("%s leads to %s: %v", path, target, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"absolute", "climbs"} {
		if b, err := os.ReadFile(filepath.Join(root, dir, name)); err != nil || string(b) != "of the submitter" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestWhatCannotBePackedIsNamed(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"dangling": "->nowhere"})
	for name, kind := range map[string]bakehouse.Kind{
		"no-such.sh": bakehouse.NotFound, "pipe": bakehouse.Invalid, "dangling": bakehouse.NotFound,
	} {
		_, _, err := s.Pack(t.Context(), bakehouse.Files{Cwd: dir}, []string{name}, nil)
		if bakehouse.KindOf(err) != kind || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// In a folder, what has no content is passed over.
	if _, _, err := s.Pack(t.Context(), bakehouse.Files{Cwd: dir}, []string{"."}, nil); err != nil {
		t.Error(err)
	}
}

func TestTheStoreLearnsNothing(t *testing.T) {
	s, store := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"name-of-a-file": strings.Repeat("correct-horse ", 100)})
	pack(t, s, dir, ".")
	for name, content := range tree(t, store) {
		for _, leak := range []string{"correct-horse", "name-of-a-file"} {
			if strings.Contains(name, leak) || strings.Contains(content, leak) {
				t.Errorf("%q is in %s", leak, name)
			}
		}
	}
}

func TestManyUnpackAtOnce(t *testing.T) {
	s, _ := newStore(t)
	dir, cache := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a": strings.Repeat("x", 1<<20), "b/c": "y", "l": "->a"})
	d, _ := pack(t, s, dir, ".")
	// What a crash left behind.
	write(t, cache, map[string]string{string(d) + ".tmp/root/half": "x", string(d) + "/root/half": "x"})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			root, err := s.Unpack(context.Background(), d, cache)
			if err != nil {
				t.Error(err)
				return
			}
			if diff := cmp.Diff(tree(t, dir), tree(t, filepath.Join(root, dir))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(root, "half")); err == nil {
				t.Error("leftovers were taken for the bundle")
			}
		})
	}
	wg.Wait()
}

// Whoever is cut off while he unpacks leaves nothing that is taken for whole,
// wherever he was.
func TestUnpackingThatWasCutOff(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("%d", i)] = fmt.Sprintf("file %d", i)
	}
	write(t, dir, files)
	d, _ := pack(t, s, dir, ".")
	want := tree(t, dir)
	for _, done := range []int{0, 1, 2, 5, 20, 80, 150, 199} {
		cache := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		stop := make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() { // cut it off when so many are there
			for names := []string{}; len(names) < done; {
				select {
				case <-stop:
					return
				default:
					names, _ = filepath.Glob(filepath.Join(cache, "*.tmp", "root", dir, "*"))
				}
			}
			cancel()
		})
		if done == 0 {
			watching.Wait()
		}
		_, err := s.Unpack(ctx, d, cache)
		close(stop)
		watching.Wait()
		cancel()
		if got := tree(t, filepath.Join(unpack(t, s, d, cache), dir)); !maps.Equal(got, want) {
			t.Errorf("cut off after %d files (%v): %d of %d are there", done, err, len(got), len(want))
		}
	}
}

func TestAnUnpackedBundleNeedsNoStore(t *testing.T) {
	s, store := newStore(t)
	dir, cache := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a": "x"})
	d, _ := pack(t, s, dir, ".")
	first := unpack(t, s, d, cache)
	if err := os.RemoveAll(filepath.Join(store, "blobs")); err != nil {
		t.Fatal(err)
	}
	if again := unpack(t, s, d, cache); again != first {
		t.Errorf("%s, not %s", again, first)
	}
	if _, err := s.Unpack(t.Context(), d, t.TempDir()); bakehouse.KindOf(err) != bakehouse.NotFound || !strings.Contains(err.Error(), string(d)) {
		t.Errorf("from an empty store: %v", err)
	}
}

func TestDamagedBlobsAreNamed(t *testing.T) {
	s, store := newStore(t)
	d, err := s.Put(t.Context(), []byte("a plan"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Put(t.Context(), []byte("another plan"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), d); err != nil || string(got) != "a plan" {
		t.Fatalf("%q, %v", got, err)
	}
	path := func(d bundle.Digest) string {
		id, sum, _ := strings.Cut(string(d), "-")
		return filepath.Join(store, "blobs", id, sum[:2], sum)
	}
	good, err := os.ReadFile(path(d))
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := os.ReadFile(path(other))
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	for name, content := range map[string][]byte{
		"altered": altered, "cut short": good[:len(good)-1], "empty": nil, "another one": swapped,
	} {
		if err := os.WriteFile(path(d), content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), d)
		if bakehouse.KindOf(err) != bakehouse.Failed || !strings.Contains(err.Error(), string(d)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []bundle.Digest{"", "x", "a-b", "../../etc-" + bundle.Digest(strings.Repeat("0", 64))} {
		if _, err := s.Get(t.Context(), bad); bakehouse.KindOf(err) != bakehouse.Invalid {
			t.Errorf("digest %q: %v", bad, err)
		}
	}
}

// A bundle that was made to write elsewhere is refused before anything is
// written.
func TestEvilBundlesAreRefused(t *testing.T) {
	s, _ := newStore(t)
	for name, entries := range map[string]string{
		"climbs":        `{"path":"/../x","kind":"file"}`,
		"relative":      `{"path":"x","kind":"file"}`,
		"behind a link": `{"path":"/a","kind":"link","target":"/etc"},{"path":"/a/b","kind":"file"}`,
		"no such kind":  `{"path":"/a","kind":"device"}`,
		"behind a file": `{"path":"/a","kind":"file"},{"path":"/a/b","kind":"file"}`,
		"listed twice":  `{"path":"/a","kind":"file"},{"path":"/a","kind":"file"}`,
		"negative":      `{"path":"/a","kind":"file","size":-1}`,
		"bomb":          `{"path":"/a","kind":"file","size":99999999999999}`,
		"many bombs":    `{"path":"/a","kind":"file","size":9223372036854775807},{"path":"/b","kind":"file","size":9223372036854775807}`,
	} {
		d, err := s.Put(t.Context(), []byte(`{"version":1,"entries":[`+entries+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		cache := t.TempDir()
		if _, err := s.Unpack(t.Context(), d, cache); bakehouse.KindOf(err) != bakehouse.Failed {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(cache, string(d))); err == nil {
			t.Errorf("%s: something was unpacked", name)
		}
	}
}

// A file whose parts are longer than it says does not fill the disk, and is
// refused.
func TestALyingIndexIsRefused(t *testing.T) {
	s, _ := newStore(t)
	part, err := s.Put(t.Context(), bytes.Repeat([]byte("x"), 100))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{3, 99, 101, 1000} {
		d, err := s.Put(t.Context(), fmt.Appendf(nil, `{"version":1,"entries":[{"path":"/a","kind":"file","size":%d,"parts":[%q,%q]}]}`, size, part, part))
		if err != nil {
			t.Fatal(err)
		}
		cache := t.TempDir()
		if _, err := s.Unpack(t.Context(), d, cache); bakehouse.KindOf(err) != bakehouse.Failed || !strings.Contains(err.Error(), "/a") {
			t.Errorf("size %d: %v", size, err)
		}
		if left, _ := filepath.Glob(filepath.Join(cache, "*", "*")); len(left) > 0 {
			t.Errorf("size %d: left behind: %v", size, left)
		}
	}
}

// Whatever happens to unpacked files on an agent's disk, a build gets those that
// were submitted.
func TestAChangedUnpackedBundleIsUnpackedAgain(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.sh": "echo a", "sub/b.sh": "echo b"})
	if err := os.Symlink("a.sh", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	d, _ := pack(t, s, dir, ".")
	cache := t.TempDir()
	root := unpack(t, s, d, cache)
	want := tree(t, filepath.Join(root, dir))
	at := func(name string) string { return filepath.Join(root, dir, name) }
	beside := func(name string) string { return filepath.Join(filepath.Dir(root), name) }
	for what, harm := range map[string]func() error{
		"altered":        func() error { return os.WriteFile(at("a.sh"), []byte("echo x"), 0o644) },
		"cut short":      func() error { return os.Truncate(at("sub/b.sh"), 2) },
		"emptied":        func() error { return os.Truncate(at("sub/b.sh"), 0) },
		"gone":           func() error { return os.Remove(at("a.sh")) },
		"other mode":     func() error { return os.Chmod(at("a.sh"), 0o777) },
		"other link":     func() error { return errors.Join(os.Remove(at("link")), os.Symlink("/etc/passwd", at("link"))) },
		"link for file":  func() error { return errors.Join(os.Rename(at("a.sh"), at("c.sh")), os.Symlink("c.sh", at("a.sh"))) },
		"sums cut":       func() error { return os.Truncate(beside("sums"), 10) },
		"sums emptied":   func() error { return os.WriteFile(beside("sums"), []byte("{}"), 0o600) },
		"sums gone":      func() error { return os.Remove(beside("sums")) },
		"note cut":       func() error { return os.Truncate(beside("boot"), 40) },
		"nothing at all": func() error { return nil },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		got := tree(t, filepath.Join(unpack(t, s, d, cache), dir))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestOpenBucket(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"file://" + file + "/below": "not a directory",
		"file://" + file:            "not a directory",
		"file://relative/path":      "three slashes",
		"file:///x?create_dir=1":    "no parameters",
		"/var/lib/blobs":            "not a URL",
		"ftp://x/y":                 `scheme "ftp"`,
		"%":                         "blob store",
	} {
		b, err := bundle.OpenBucket(t.Context(), url)
		if err == nil {
			b.Close()
		}
		if bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"mem://", "file://" + t.TempDir() + "/made", "s3://bucket?region=eu-central-1&prefix=farm/"} {
		b, err := bundle.OpenBucket(t.Context(), url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		b.Close()
	}
}

func TestFoldersThatCannotBeWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for name, tt := range map[string]struct {
		options string
		flags   uintptr
		want    syscall.Errno
	}{
		"full":      {"size=4k", 0, syscall.ENOSPC},
		"read-only": {"", unix.MS_RDONLY, syscall.EROFS},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", tt.flags, tt.options); err != nil {
				t.Skipf("mount: %v", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			b, err := bundle.OpenBucket(t.Context(), "file://"+dir)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
