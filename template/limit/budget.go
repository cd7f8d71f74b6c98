package limit

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// A Budget is what one evaluation may still do. The nil Budget bounds single
// values only. It may be used by many goroutines at once.
type Budget struct {
	ctx    context.Context
	left   atomic.Int64
	blocks atomic.Int64
}

// New returns the Budget of an evaluation.
func New() *Budget {
	b := &Budget{}
	b.left.Store(Work)
	b.blocks.Store(Blocks)
	return b
}

// Until makes the evaluation end, with an error, when ctx does. It must be
// called before the evaluation begins.
func (b *Budget) Until(ctx context.Context) { b.ctx = ctx }

// Grant adds work to the budget.
func (b *Budget) Grant(work int) {
	if b != nil {
		b.left.Add(int64(work))
	}
}

// Spend takes work from the budget. The error says that nothing is left, or
// that the evaluation has been given up.
func (b *Budget) Spend(work int) error {
	if b == nil {
		return nil
	}
	if b.left.Add(-int64(work)) < 0 {
		return fmt.Errorf("this template takes more work to evaluate than is allowed (%d elements or pieces of text): "+
			"do its for expressions, dynamic blocks or values multiply?", Work)
	}
	if b.ctx != nil && b.ctx.Err() != nil {
		return fmt.Errorf("evaluation was given up: %w", context.Cause(b.ctx))
	}
	return nil
}

// Weigh takes a value from the budget, and says whether it is within the limits
// of a single one.
func (b *Budget) Weigh(v cty.Value) error {
	s := scale{elements: Elements, text: Text}
	err := s.add(v)
	if more := b.Spend(Elements - s.elements + (Text-s.text)/16); err == nil {
		err = more
	}
	return err
}

// Expand checks the collection of a dynamic block, for dynblock.OptCheckForEach.
func (b *Budget) Expand(v cty.Value, x hcl.Expression, _ *hcl.EvalContext) hcl.Diagnostics {
	err := b.Weigh(v)
	v, _ = v.Unmark()
	if b != nil && err == nil && v.IsKnown() && !v.IsNull() && v.CanIterateElements() {
		n := v.LengthInt()
		err = b.Spend(Turn * n)
		if left := b.blocks.Add(-int64(n)); err == nil && left < 0 {
			err = fmt.Errorf("dynamic blocks may make %d blocks in one template; these make more", Blocks)
		}
	}
	if err != nil {
		return hcl.Diagnostics{at(x.Range(), "Template goes beyond a limit", "%s.", capital(err.Error()))}
	}
	return nil
}

// scale weighs a value against what is left of each limit.
type scale struct{ elements, text int }

// add walks v, and stops at a limit: values share their parts, so that one
// which is small in memory may take for ever to walk.
func (s *scale) add(v cty.Value) error {
	if s.elements--; s.elements < 0 {
		s.elements = 0
		return fmt.Errorf("a value may have %d elements, those within its elements included; this one has more", Elements)
	}
	v, _ = v.Unmark()
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return nil
	}
	switch ty := v.Type(); {
	case ty == cty.String:
		if s.text -= len(v.AsString()); s.text < 0 {
			s.text = 0
			return fmt.Errorf("the text of a value may have %d bytes; this one has more", Text)
		}
	case ty == cty.Number:
		return Number(v.AsBigFloat())
	case ty.IsCapsuleType():
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			if k.Type() == cty.String && !ty.IsSetType() {
				if err := s.add(k); err != nil {
					return err
				}
			}
			if err := s.add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Number says whether n is within the limits of a number: one with a great
// exponent is small until somebody writes it down.
func Number(n *big.Float) error {
	if n.IsInf() || n.Sign() == 0 {
		return nil
	}
	if e := n.MantExp(nil); e > Bits || e < -Bits {
		return fmt.Errorf("a number may have about %d digits before or after its point; this one has %d",
			int(Bits*math.Log10(2)), int(math.Abs(float64(e))*math.Log10(2)))
	}
	return nil
}

// Convertible says whether the strings in v can be made the numbers that want
// asks for, within the limits of numbers.
func Convertible(v cty.Value, want cty.Type) error {
	if !numbers(want) {
		return nil
	}
	v, _ = v.UnmarkDeep()
	return cty.Walk(v, func(_ cty.Path, e cty.Value) (bool, error) {
		if !e.IsKnown() || e.IsNull() {
			return false, nil
		}
		switch e.Type() {
		case cty.String:
			return false, Digits(e.AsString())
		case cty.Number:
			return false, Number(e.AsBigFloat())
		}
		return true, nil
	})
}

func numbers(ty cty.Type) bool {
	switch {
	case ty == cty.Number || ty == cty.DynamicPseudoType:
		return true
	case ty.IsCollectionType():
		return numbers(ty.ElementType())
	case ty.IsTupleType():
		return slices.ContainsFunc(ty.TupleElementTypes(), numbers)
	case ty.IsObjectType():
		for _, a := range ty.AttributeTypes() {
			if numbers(a) {
				return true
			}
		}
	}
	return false
}

func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
