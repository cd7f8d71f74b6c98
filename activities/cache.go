package activities

import "sync"

// A cache keeps the last few values that were dear to make. Values are made
// once even when several steps ask at the same time.
type cache[V any] struct {
	mu    sync.Mutex
	limit int
	order []string
	items map[string]*item[V]
}

type item[V any] struct {
	once sync.Once
	v    V
	err  error
}

func newCache[V any](limit int) *cache[V] {
	return &cache[V]{limit: limit, items: map[string]*item[V]{}}
}

// get returns the value of key, making it when it is not there. A failure is
// not kept.
func (c *cache[V]) get(key string, make func() (V, error)) (V, error) {
	c.mu.Lock()
	it, ok := c.items[key]
	if !ok {
		it = &item[V]{}
		c.items[key] = it
		c.order = append(c.order, key)
		if len(c.order) > c.limit {
			delete(c.items, c.order[0])
			c.order = c.order[1:]
		}
	}
	c.mu.Unlock()
	it.once.Do(func() { it.v, it.err = make() })
	if it.err != nil {
		c.drop(key, it)
	}
	return it.v, it.err
}

func (c *cache[V]) drop(key string, it *item[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[key] != it {
		return
	}
	delete(c.items, key)
	for i, k := range c.order {
		if k == key {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}
