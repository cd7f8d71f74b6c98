package template

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
	fn "github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// ConsoleInput is the name under which diagnostics show what was typed.
const ConsoleInput = "<console-input>"

// Empty returns a template with nothing in it: one in which expressions can be
// tried all the same. legacy makes it a JSON template of the older kind.
func Empty(files bakehouse.Files, cat Catalogue, legacy bool) *Template {
	return &Template{
		cat: cat, files: files, legacy: legacy,
		parsed: map[string]*hcl.File{}, named: map[string]any{}, budget: limit.New(),
	}
}

// A Console evaluates what a user types, with the values of a template. It is
// for one goroutine at a time.
type Console struct {
	e *evaluation
	// lines counts what was typed: each line sees random values of its own.
	lines int
}

// Console evaluates the locals of a template, from then on for all lines the
// same, and returns a Console with them. Data sources are not read: what depends
// on them is Unknown. The diagnostics say what is wrong with the locals; the
// Console can be used all the same, they are Unknown in it.
func (t *Template) Console(v Values, pin Pinned) (*Console, hcl.Diagnostics) {
	if t.legacy {
		v = t.masked(v)
	}
	e := t.evaluation(v, pin)
	diags := e.valuate()
	return &Console{e: e}, e.polish(diags)
}

// Variables returns the variables and the locals, sorted; in a JSON template of
// the older kind the user variables, rendered. What is sensitive is Hidden.
func (c *Console) Variables() (variables, locals []Named) {
	if c.e.t.legacy {
		return c.e.userValues(), nil
	}
	return c.e.named()
}

// Evaluate evaluates an expression of HCL, or renders the {{ }} in a text if the
// template is a JSON template of the older kind. What comes out is shown as Show
// does. pin is the clock and the randomness of this line.
func (c *Console) Evaluate(line string, pin Pinned) (string, hcl.Diagnostics) {
	c.lines++
	if c.e.t.legacy {
		return c.render(line, pin)
	}
	t := c.e.t
	t.parsed[ConsoleInput] = &hcl.File{Bytes: []byte(line), Body: hcl.EmptyBody()}
	if d := tooDeep([]byte(line), ConsoleInput); d != nil {
		return "", hcl.Diagnostics{d}
	}
	x, diags := hclsyntax.ParseExpression([]byte(line), ConsoleInput, hcl.InitialPos)
	if !diags.HasErrors() {
		diags = append(diags, limit.Instrument(x, nil)...)
	}
	if diags.HasErrors() {
		return "", c.e.polish(diags)
	}
	if diags := absent(x); diags.HasErrors() {
		return "", diags
	}
	budget := limit.New() // each line has its own
	v, more := x.Value(c.context(pin, budget))
	if err := budget.Weigh(v); err != nil && !more.HasErrors() {
		more = append(more, failureAt(x.Range(), "Value goes beyond a limit", "%s.", err))
	}
	if more.HasErrors() {
		return "", c.e.polish(append(diags, more...))
	}
	return Show(v), c.e.polish(append(diags, more...))
}

// context is what a line may see. Its clock goes on.
func (c *Console) context(pin Pinned, budget *limit.Budget) *hcl.EvalContext {
	vars := c.e.roots()
	limit.Put(vars, budget)
	vars["local"] = cty.ObjectVal(c.e.scope.locals)
	env := c.e.env
	env.Budget = budget
	env.Time, env.Seed = pin.Time, fmt.Sprintf("%s\x00%d", pin.Seed, c.lines)
	return &hcl.EvalContext{Variables: vars, Functions: fn.All(env)}
}

// absent says why names that are known elsewhere in a template are not here.
func absent(x hcl.Expression) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, ref := range x.Variables() {
		var why string
		switch ref.RootName() {
		case "data":
			why = "Data sources are not read by the console."
		case "build", "source":
			why = "What it holds is known only while a build runs."
		default:
			continue
		}
		diags = append(diags, failureAt(ref.SourceRange(), "Unknown variable", "There is no variable named %q here. %s", ref.RootName(), why))
	}
	return diags
}

func (c *Console) render(line string, pin Pinned) (string, hcl.Diagnostics) {
	e := c.e
	out, err := interpolate.Render(line, interpolate.Context{
		Time: pin.Time, Seed: fmt.Sprintf("%s\x00%d", pin.Seed, c.lines), Version: pin.version(),
		Dir: e.t.files.Cwd, TemplateDir: e.t.files.Abs(e.t.base), User: e.user,
		Unknown: e.unknown,
	})
	if errors.Is(err, interpolate.ErrUnknown) {
		return Unknown, nil
	}
	if err != nil {
		return "", hcl.Diagnostics{failure("Interpolation error", "%s.", strings.TrimSuffix(err.Error(), "."))}
	}
	return out, nil
}
