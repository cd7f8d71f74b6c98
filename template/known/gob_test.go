package known_test

import (
	"bytes"
	"encoding/gob"
	"fmt"
)

// What packer tells is a gob of hcldec's and cty's types. Today's cty does not
// read that any more, so that here are types in the shape of theirs.

type (
	objectSpec map[string]any
	// vendored is objectSpec as some plugins call it.
	vendored objectSpec
	attrSpec struct {
		Name     string
		Type     ctyType
		Required bool
	}
	blockSpec struct {
		TypeName string
		Nested   any
		Required bool
	}
	blockListSpec struct {
		TypeName           string
		Nested             any
		MinItems, MaxItems int
	}
)

// A ctyType is a type as templates write it: "list(string)".
type ctyType string

type (
	gobType struct {
		Version int
		Impl    any
	}
	primitiveType struct{ Kind uint8 }
	typeMap       struct{ ElementTypeT ctyType }
	typeList      struct{ ElementTypeT ctyType }
	typeSet       struct{ ElementTypeT ctyType }
	dynamicType   struct{}
)

func (t *ctyType) GobDecode(raw []byte) error {
	var g gobType
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&g); err != nil {
		return err
	}
	switch impl := g.Impl.(type) {
	case primitiveType:
		*t = map[uint8]ctyType{'B': "bool", 'N': "number", 'S': "string"}[impl.Kind]
	case typeMap:
		*t = "map(" + impl.ElementTypeT + ")"
	case typeList:
		*t = "list(" + impl.ElementTypeT + ")"
	case typeSet:
		*t = "set(" + impl.ElementTypeT + ")"
	case dynamicType:
		*t = "any"
	}
	if *t == "" {
		return fmt.Errorf("type %#v", g.Impl)
	}
	return nil
}

func init() {
	gob.RegisterName("github.com/hashicorp/hcl/v2/hcldcc.ObjectSpec", objectSpec{})
	gob.RegisterName("github.com/hashicorp/packer/vendor/github.com/hashicorp/hcl/v2/hcldcc.ObjectSpec", vendored{})
	gob.RegisterName("*hcldcc.AttrSpec", &attrSpec{})
	gob.RegisterName("*hcldcc.BlockSpec", &blockSpec{})
	gob.RegisterName("*hcldcc.BlockListSpec", &blockListSpec{})
	const cty = "github.com/zclconf/go-cty/cty."
	gob.RegisterName(cty+"primitiveType", primitiveType{})
	gob.RegisterName(cty+"typeMap", typeMap{})
	gob.RegisterName(cty+"typeList", typeList{})
	gob.RegisterName(cty+"typeSet", typeSet{})
	gob.RegisterName(cty+"pseudoTypeDynamic", dynamicType{})
}

func decodeSpec(raw []byte) (objectSpec, error) {
	// hcldec itself, which a dependency brings, has taken the names.
	raw = bytes.ReplaceAll(raw, []byte("hcldec."), []byte("hcldcc."))
	var spec objectSpec
	return spec, gob.NewDecoder(bytes.NewReader(raw)).Decode(&spec)
}
