// Package control is how the localcloud command talks to a running localcloud
// about what EC2 has no words for: importing and exporting file systems, a shell
// in an instance, faults on purpose, and the record of what was asked for. It goes over a Unix socket in the state folder, which only the
// owner of the folder can reach.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

func socket(dir string) string { return filepath.Join(dir, "control.sock") }

// Listen opens the socket of the state folder dir, in place of one that a
// killed process has left. The caller holds the folder's lock.
func Listen(dir string) (net.Listener, error) {
	path := socket(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if len(path) > 107 {
		return nil, fmt.Errorf("control socket: path of the state folder is too long for a socket (%s has more than 107 bytes): choose a shorter one with -state", path)
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// Handler answers a Client on behalf of c.
func Handler(c *localcloud.Cloud, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	answer := func(f func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				log.Warn("control request failed", "path", r.URL.Path, "error", err)
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		}
	}
	mux.HandleFunc("GET /images", answer(func(w http.ResponseWriter, _ *http.Request) error {
		list, err := c.Images()
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(list)
	}))
	mux.HandleFunc("GET /instances", answer(func(w http.ResponseWriter, _ *http.Request) error {
		list, err := c.Instances()
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(list)
	}))
	mux.HandleFunc("POST /import", answer(func(_ http.ResponseWriter, r *http.Request) error {
		return c.Import(r.Context(), r.URL.Query().Get("name"), r.URL.Query().Get("owner"), r.Body)
	}))
	mux.HandleFunc("POST /rm", answer(func(_ http.ResponseWriter, r *http.Request) error {
		return c.Forget(r.URL.Query().Get("name"))
	}))
	mux.HandleFunc("POST /terminate", answer(func(_ http.ResponseWriter, r *http.Request) error {
		return c.Terminate(r.Context())
	}))
	mux.HandleFunc("POST /reset", answer(func(_ http.ResponseWriter, r *http.Request) error {
		return c.Reset(r.Context())
	}))
	laboratory(mux, c, answer)
	mux.HandleFunc("GET /export", func(w http.ResponseWriter, r *http.Request) { export(w, r, c, log) })
	mux.HandleFunc("POST /shell", func(w http.ResponseWriter, r *http.Request) { shell(w, r, c, log) })
	return mux
}

// export sends a tarball. Once it flows, an error can only break it off.
func export(w http.ResponseWriter, r *http.Request, c *localcloud.Cloud, log *slog.Logger) {
	out := &counting{w: w}
	err := c.Export(r.Context(), r.URL.Query().Get("image"), out)
	if err == nil {
		return
	}
	log.Warn("export failed", "image", r.URL.Query().Get("image"), "error", err)
	if out.n == 0 {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	panic(http.ErrAbortHandler)
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// A Client talks to the localcloud that has the state folder Dir.
type Client struct {
	Dir string
}

func (c Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket(c.Dir))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no localcloud runs on the state folder %s: start it with `localcloud serve`, or say where with -state", c.Dir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("state folder %s belongs to another user: use the user that runs localcloud (root)", c.Dir)
	case err != nil:
		return nil, fmt.Errorf("reach localcloud: %w", err)
	}
	return conn, nil
}

// A Refusal is the error of a localcloud that was reached, and did not do what
// it was asked.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// do sends a request and returns the body of a successful answer.
func (c Client) do(ctx context.Context, method, path string, q url.Values, body io.Reader) (io.ReadCloser, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://localcloud"+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		return nil, Refusal(strings.TrimSpace(string(b)))
	}
	return resp.Body, nil
}

func (c Client) post(ctx context.Context, path string, q url.Values, body io.Reader) error {
	b, err := c.do(ctx, http.MethodPost, path, q, body)
	if err != nil {
		return err
	}
	return b.Close()
}

func list[T any](ctx context.Context, c Client, path string) (out []T, err error) {
	b, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return out, json.NewDecoder(b).Decode(&out)
}

// Images returns the images of all regions.
func (c Client) Images(ctx context.Context) ([]state.Image, error) {
	return list[state.Image](ctx, c, "/images")
}

// Instances returns the instances of all regions.
func (c Client) Instances(ctx context.Context) ([]state.Instance, error) {
	return list[state.Instance](ctx, c, "/instances")
}

// Import makes an image of a tarball; see localcloud.Cloud.
func (c Client) Import(ctx context.Context, name, owner string, tarball io.Reader) error {
	return c.post(ctx, "/import", url.Values{"name": {name}, "owner": {owner}}, tarball)
}

// Remove takes back an import.
func (c Client) Remove(ctx context.Context, name string) error {
	return c.post(ctx, "/rm", url.Values{"name": {name}}, nil)
}

// Terminate ends all instances.
func (c Client) Terminate(ctx context.Context) error { return c.post(ctx, "/terminate", nil, nil) }

// Reset removes everything but imported images.
func (c Client) Reset(ctx context.Context) error { return c.post(ctx, "/reset", nil, nil) }

// Export writes the file system of an image as a tarball.
func (c Client) Export(ctx context.Context, image string, w io.Writer) error {
	b, err := c.do(ctx, http.MethodGet, "/export", url.Values{"image": {image}}, nil)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := io.Copy(w, b); err != nil {
		return fmt.Errorf("export %s: %w", image, err)
	}
	return nil
}
