package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
)

// answering turns a function into a handler; what it fails with is answered.
type answering func(func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc

// laboratory adds what a fault laboratory needs: to break things, and to see
// what became of them.
func laboratory(mux *http.ServeMux, c *localcloud.Cloud, answer answering) {
	mux.HandleFunc("POST /faults", answer(func(w http.ResponseWriter, r *http.Request) error {
		rule, err := read[faults.Rule](r)
		if err != nil {
			return err
		}
		if rule, err = c.Faults().Add(rule); err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(rule)
	}))
	mux.HandleFunc("GET /faults", answer(func(w http.ResponseWriter, _ *http.Request) error {
		return json.NewEncoder(w).Encode(c.Faults().List())
	}))
	mux.HandleFunc("POST /faults/remove", answer(func(_ http.ResponseWriter, r *http.Request) error {
		return c.Faults().Remove(r.URL.Query().Get("id"))
	}))
	mux.HandleFunc("POST /machine", answer(func(w http.ResponseWriter, r *http.Request) error {
		f, err := read[localcloud.MachineFault](r)
		if err != nil {
			return err
		}
		done, err := c.Break(r.Context(), f)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(done)
	}))
	mux.HandleFunc("POST /record", answer(func(w http.ResponseWriter, r *http.Request) error {
		f, err := read[record.Filter](r)
		if err != nil {
			return err
		}
		var failed error
		out := json.NewEncoder(w)
		err = c.Record(f, func(e record.Entry) bool {
			failed = out.Encode(e)
			return failed == nil
		})
		if err == nil && failed == nil {
			_, failed = io.WriteString(w, "\n") // an empty line: all of it is there
		}
		if failed != nil {
			panic(http.ErrAbortHandler) // too late to say anything else
		}
		return err
	}))
	mux.HandleFunc("POST /census", answer(func(w http.ResponseWriter, r *http.Request) error {
		s, err := read[localcloud.Search](r)
		if err != nil {
			return err
		}
		list, err := c.Census(s)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(list)
	}))
}

func read[T any](r *http.Request) (v T, err error) {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, bakehouse.Errorf(bakehouse.Invalid, "request: %w", err)
	}
	return v, nil
}

// send posts a value and decodes the answer into out.
func (c Client) send(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, path, nil, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(out)
}

// AddFault adds a rule and returns it with its ID and the defaults of its kind.
// It works from the next request on; see faults.Set.Add for errors.
func (c Client) AddFault(ctx context.Context, r faults.Rule) (out faults.Rule, err error) {
	return out, c.send(ctx, "/faults", r, &out)
}

// Faults returns the rules and how often each has hit.
func (c Client) Faults(ctx context.Context) ([]faults.Status, error) {
	return list[faults.Status](ctx, c, "/faults")
}

// RemoveFault removes the rule of that id; "*" removes all.
func (c Client) RemoveFault(ctx context.Context, id string) error {
	return c.post(ctx, "/faults/remove", url.Values{"id": {id}}, nil)
}

// Break does something to machines, or mends them, and returns their ids; see
// localcloud.Cloud.Break.
func (c Client) Break(ctx context.Context, f localcloud.MachineFault) (ids []string, err error) {
	return ids, c.send(ctx, "/machine", f, &ids)
}

// Record returns the entries of the record that pass, the oldest first.
func (c Client) Record(ctx context.Context, f record.Filter) ([]record.Entry, error) {
	var list []record.Entry
	err := c.EachRecord(ctx, f, func(e record.Entry) bool {
		list = append(list, e)
		return true
	})
	return list, err
}

// EachRecord calls f with the entries of the record that pass, the oldest first,
// until it returns false.
func (c Client) EachRecord(ctx context.Context, filter record.Filter, f func(record.Entry) bool) error {
	b, err := json.Marshal(filter)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/record", nil, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer body.Close()
	r := bufio.NewReader(body)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("record broke off: %w", err)
		}
		if len(line) == 1 {
			return nil
		}
		var e record.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("record: %w", err)
		}
		if !f(e) {
			return nil
		}
	}
}

// Census returns the resources that are found, by region, kind and id, with
// what became of them.
func (c Client) Census(ctx context.Context, s localcloud.Search) (found []localcloud.Resource, err error) {
	return found, c.send(ctx, "/census", s, &found)
}
