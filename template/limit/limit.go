// Package limit bounds what a template may cost: whoever reads one on behalf
// of others (an agent does) must not run out of stack, memory or patience
// because of what somebody wrote.
//
// All limits are counts, not times, so that a template is refused everywhere or
// nowhere. They are far above what templates of people need. There are two kinds:
//
//   - what a file may look like, found before it is parsed (Source, JSON), since
//     parsers recurse and Go does not survive an exhausted stack;
//   - what an evaluation may do (Budget), counted where hcl lets us look: in the
//     functions, in collections that are iterated over, in the parts of strings,
//     in arithmetic (Instrument).
package limit

// Limits of files.
const (
	// File is how many bytes one file may have: a template, a file with
	// variables, or one that a function reads.
	File = 16 << 20
	// Files is how many bytes the files of one template may have together.
	Files = 64 << 20
	// Words is how many words and signs a file may have: what a parser makes of
	// one takes hundreds of bytes.
	Words = 3_000_000
	// Depth is how deep brackets, strings with ${ } in them and %{ } may nest.
	Depth = 1000
	// Chain is how many operators and steps may follow each other in one
	// expression, such as the plus signs of 1 + 1 + 1.
	Chain = 10_000
	// Arguments is how many arguments a call of a function may have.
	Arguments = 10_000
	// Name is how many bytes a name may have.
	Name = 256
)

// Limits of one evaluation.
const (
	// Elements is how many elements one value may have, those of its elements
	// included.
	Elements = 1_000_000
	// Text is how many bytes the strings of one value may have together.
	Text = 32 << 20
	// Bits is how long a number may be, before or after the point: about 3,000
	// decimal digits.
	Bits = 10_000
	// Work is what an evaluation may do in whole. Each element that is looked at,
	// and each 16 bytes of text, is one; each turn of a for expression and each
	// block that a dynamic block makes is Turn.
	Work = 20_000_000
	// Turn is what one turn of a for expression counts.
	Turn = 10
	// PerBuild is what each build adds to Work.
	PerBuild = 1_000_000
	// Blocks is how many blocks the dynamic blocks of a template may make.
	Blocks = 20_000
	// Builds is how many builds a template may have.
	Builds = 10_000
	// Errors is how many of what is wrong with a template are told at once.
	Errors = 100
)

// Limits of strings with {{ }}.
const (
	// Actions is how many {{ }} one string may have.
	Actions = 10_000
	// Turns is how many turns the loops of one string may take together.
	Turns = 100_000
	// Rendered is how many bytes one string may become.
	Rendered = Text
)
