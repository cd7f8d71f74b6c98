package buildlog

import "context"

// entrySize is what an entry takes besides its text.
const entrySize = 100

// flush stores what waits, chunk by chunk. What could not be stored stays.
func (st *Step) flush(ctx context.Context) error {
	st.flushing.Lock()
	defer st.flushing.Unlock()
	for {
		st.mu.Lock()
		c, n := st.compose()
		key := chunkKey(st.prefix, st.name, st.next)
		if len(c.Entries) == 0 {
			st.discard(n) // another attempt has stored it all
		}
		st.mu.Unlock()
		if n == 0 {
			return nil
		}
		if len(c.Entries) == 0 {
			continue
		}
		if err := st.storeChunk(ctx, key, c, n); err != nil {
			return err
		}
	}
}

// storeChunk stores a chunk of the first n items, or, where its number is
// taken, learns what the other attempt wrote.
func (st *Step) storeChunk(ctx context.Context, key string, c chunk, n int) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	ok, err := st.store.put(ctx, key, c)
	if err != nil {
		return err
	}
	if !ok {
		// It may be our own, when an earlier answer was lost: then what we are
		// about to store is in it, and is dropped.
		_, err := st.load(ctx)
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.learn(c)
	st.discard(n)
	return nil
}

// load reads the next chunk, if there is one.
func (st *Step) load(ctx context.Context) (bool, error) {
	c, ok, err := st.store.get(ctx, chunkKey(st.prefix, st.name, st.next))
	if err != nil || !ok {
		return false, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.learn(c)
	return true, nil
}

// loadAll reads what is there. Chunks that are missing before others are an
// error: writing on would hide that.
func (st *Step) loadAll(ctx context.Context) error {
	for {
		more, err := st.load(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		next, err := st.store.behind(ctx, st.prefix, st.name, st.next)
		if err != nil || next == 0 {
			return err
		}
		// Another attempt may have written it just now.
		if more, err = st.load(ctx); err != nil {
			return err
		} else if !more {
			return gap(st.prefix, st.name, st.next-1, next)
		}
	}
}

// learn notes that chunk number st.next is c. st.mu is held.
func (st *Step) learn(c chunk) {
	st.next++
	for _, e := range c.Entries {
		if e.Kind != Output {
			st.stored[string(e.Kind)+"\x00"+e.Text]++
			continue
		}
		if e.Offset > st.offsets[e.Command] {
			st.offsets[e.Command] = e.Offset
			st.drop(e.Command, e.Offset)
		}
	}
}

// compose makes a chunk of the first n items, without what is stored already.
// st.mu is held.
func (st *Step) compose() (c chunk, n int) {
	size := 0
	// As it will be when the entries before are stored.
	stored := map[string]int{}
	offsets := map[string]int64{}
	for n < len(st.items) && size < maxChunk {
		it := st.items[n]
		n++
		size += len(it.raw) + len(it.text) + entrySize
		if it.kind != Output {
			id := string(it.kind) + "\x00" + it.text
			if it.nth > st.stored[id]+stored[id] {
				stored[id]++
				c.Entries = append(c.Entries, entry{Kind: it.kind, Time: it.time, Text: it.text})
			}
			continue
		}
		have := max(st.offsets[it.command], offsets[it.command])
		end := it.start + int64(len(it.raw))
		if end < have || end == have && it.suffix == "" {
			continue
		}
		raw := it.raw
		if have > it.start {
			raw = raw[have-it.start:]
		}
		offsets[it.command] = end
		c.Entries = append(c.Entries, entry{
			Kind: Output, Time: it.time, Command: it.command, Offset: end,
			Text: st.mask(clean(string(raw))) + it.suffix,
		})
	}
	st.inFlight = n
	return c, n
}

// discard forgets the first n items. st.mu is held.
func (st *Step) discard(n int) {
	for _, it := range st.items[:n] {
		st.waiting -= len(it.raw) + len(it.text)
	}
	st.items = append([]item(nil), st.items[n:]...)
	st.inFlight = 0
}
