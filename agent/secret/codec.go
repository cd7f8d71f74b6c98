package secret

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// What an encrypted payload says of itself. The names are those of Temporal's
// own samples, which other tools know.
const (
	metadataEncoding = "binary/encrypted"
	metadataKeyID    = "encryption-key-id"
)

// payloadAAD keeps payloads and blobs apart.
var payloadAAD = []byte("payload")

// NewCodec returns a codec that encrypts whole payloads, metadata included,
// before they reach Temporal. The data key of a key in KMS travels within them,
// wrapped. Payloads that are not encrypted pass through
// Decode as they are, so that histories from before stay readable.
func NewCodec(keys *Keys) converter.PayloadCodec { return codec{keys} }

type codec struct{ keys *Keys }

// Encode implements converter.PayloadCodec.
func (c codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encrypt payload: %w", err)
		}
		// Temporal gives no context here; asking KMS bounds itself.
		sealed, id, err := c.keys.seal(context.Background(), plain, payloadAAD)
		if err != nil {
			return nil, fmt.Errorf("encrypt payload: %w", err)
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{
				converter.MetadataEncoding: []byte(metadataEncoding),
				metadataKeyID:              []byte(id),
			},
			Data: sealed,
		}
	}
	return out, nil
}

// Decode implements converter.PayloadCodec.
func (c codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != metadataEncoding {
			out[i] = p
			continue
		}
		plain, err := c.keys.Open(context.Background(), p.GetData(), payloadAAD)
		if err != nil {
			return nil, fmt.Errorf("decrypt payload (key %q): %w", p.GetMetadata()[metadataKeyID], err)
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, fmt.Errorf("decrypt payload: %w", err)
		}
	}
	return out, nil
}

// DataConverter returns Temporal's default data converter behind NewCodec.
func DataConverter(keys *Keys) converter.DataConverter {
	// Workflow code that waits for KMS for more than a second is not stuck.
	return workflow.DataConverterWithoutDeadlockDetection(
		converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), NewCodec(keys)))
}

// FailureConverter returns a failure converter that encrypts the message and
// the stack of failures as well; they may quote what the payloads hide.
func FailureConverter(keys *Keys) converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter:          DataConverter(keys),
		EncodeCommonAttributes: true,
	})
}
