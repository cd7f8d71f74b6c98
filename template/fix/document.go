package fix

import (
	"fmt"
	"strings"
)

// An object is a block of a template, which fixers change in place.
type object = map[string]any

// A document is a template that is being fixed.
type document struct {
	root           object
	builders       []object
	provisioners   []object
	postProcessors []object // those within sequences, too
}

func open(root object) (*document, error) {
	d := &document{root: root}
	list, err := listOf(root, "builders")
	if err != nil {
		return nil, err
	}
	for i, one := range list {
		b, ok := one.(object)
		if !ok {
			return nil, fmt.Errorf("builder %d is not an object", i+1)
		}
		d.builders = append(d.builders, b)
	}
	// One provisioner may stand without its list.
	if one, ok := root["provisioners"].(object); ok {
		root["provisioners"] = []any{one}
	}
	if list, err = listOf(root, "provisioners"); err != nil {
		return nil, err
	}
	for _, one := range list {
		if p, ok := one.(object); ok {
			d.provisioners = append(d.provisioners, p)
		}
	}
	if list, err = listOf(root, "post-processors"); err != nil {
		return nil, err
	}
	for _, one := range list {
		sequence, ok := one.([]any)
		if !ok {
			sequence = []any{one}
		}
		for _, one := range sequence {
			if p, ok := one.(object); ok {
				d.postProcessors = append(d.postProcessors, p)
			}
		}
	}
	return d, nil
}

func listOf(root object, name string) ([]any, error) {
	v := root[name]
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, fmt.Errorf("%q is not a list", name)
	}
	return list, nil
}

// typed returns those blocks whose type is one of types.
func typed(blocks []object, types ...string) []object {
	var some []object
	for _, b := range blocks {
		for _, t := range types {
			if b["type"] == t {
				some = append(some, b)
			}
		}
	}
	return some
}

// kin returns those blocks whose type begins with prefix.
func kin(blocks []object, prefix string) []object {
	var some []object
	for _, b := range blocks {
		if t, ok := b["type"].(string); ok && strings.HasPrefix(t, prefix) {
			some = append(some, b)
		}
	}
	return some
}

func has(o object, name string) bool {
	_, ok := o[name]
	return ok
}

// move gives an argument another name. What has that name already is replaced:
// the template was written for the version that knew the old name.
func move(o object, from, to string) {
	if v, ok := o[from]; ok {
		delete(o, from)
		o[to] = v
	}
}

// give does what move does, but leaves what has the name already.
func give(o object, from, to string) {
	if has(o, to) {
		delete(o, from)
		return
	}
	move(o, from, to)
}

// is tells whether an argument is there and of type T.
func is[T any](o object, name string) bool {
	_, ok := o[name].(T)
	return ok
}

// retype gives blocks of one type another one.
func retype(blocks []object, from, to string) {
	for _, b := range typed(blocks, from) {
		b["type"] = to
	}
}
