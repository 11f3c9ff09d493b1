package messages_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

func TestLabels(t *testing.T) {
	many := map[string]string{}
	for i := range messages.MaxLabels {
		many[fmt.Sprint("key ", i)] = ""
	}
	for _, metadata := range []map[string]string{
		nil, {"site": "Zürich", "role": ""}, many, {"x": strings.Repeat("y", messages.MaxMetadata-1)},
	} {
		labels, err := messages.ToLabels(metadata)
		if err != nil {
			t.Errorf("%v: %v", metadata, err)
		}
		if back := messages.FromLabels(labels); !maps.Equal(back, metadata) {
			t.Errorf("%v becomes %v", metadata, back)
		}
	}
	many["one more"] = ""
	tests := []struct {
		name     string
		metadata map[string]string
		want     error
	}{
		{"too many", many, messages.ErrLimit},
		{"too large", map[string]string{"x": strings.Repeat("y", messages.MaxMetadata)}, messages.ErrLimit},
		{"empty key", map[string]string{"": "x"}, messages.ErrProtocol},
		{"key is not UTF-8", map[string]string{"\xff": "x"}, messages.ErrProtocol},
		{"value is not UTF-8", map[string]string{"x": "\xff"}, messages.ErrProtocol},
	}
	for _, test := range tests {
		if _, err := messages.ToLabels(test.metadata); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	twice := []*conecv1.Label{{Key: "b"}, {Key: "b"}}
	if err := messages.CheckLabels(twice); !errors.Is(err, messages.ErrProtocol) {
		t.Errorf("twice the same key: %v", err)
	}
}
