package status

import (
	"reflect"
	"strings"
	"testing"
)

// Whatever a container, an engine or the catalog calls itself is text on the page.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	const evil = `"'><script>alert(1)</script>&`
	var l listing
	if n := fill(reflect.ValueOf(&l).Elem(), evil); n < 20 {
		t.Fatalf("only %d fields were filled", n)
	}
	for _, connected := range []bool{true, false} {
		l.Engine.Connected, l.Catalog.Connected = connected, connected
		var out strings.Builder
		if err := page.Execute(&out, &l); err != nil {
			t.Fatal(err)
		}
		for _, raw := range []string{"<script", `"'`, "'>", "</script>&"} {
			if strings.Contains(out.String(), raw) {
				t.Errorf("%q stands on the page:\n%s", raw, out.String())
			}
		}
		if !strings.Contains(out.String(), "&lt;script&gt;alert(1)") {
			t.Errorf("the text is not on the page:\n%s", out.String())
		}
	}
}

// fill gives every string in v a text, one element to every list, and says how many there
// were.
func fill(v reflect.Value, text string) (n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return 1
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				n += fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		n = fill(v.Index(0), text)
	}
	return n
}
