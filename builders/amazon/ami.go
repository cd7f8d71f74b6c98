package amazon

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// AMI is the data source amazon-ami: it finds an image.
type AMI struct{ connections *connections }

var _ datasources.DataSource = (*AMI)(nil)

// NewAMI returns the data source. It does not talk to AWS yet.
func NewAMI(c Config) *AMI { return &AMI{connections: newConnections(c)} }

// AMISettings are the arguments of amazon-ami.
type AMISettings struct {
	Access
	SourceAMIFilter
}

// AMIOutputs are the attributes of amazon-ami.
type AMIOutputs struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	CreationDate string            `json:"creation_date"`
	Owner        string            `json:"owner"`
	OwnerName    string            `json:"owner_name"`
	Tags         map[string]string `json:"tags"`
}

// Settings returns an *AMISettings.
func (a *AMI) Settings() any { return &AMISettings{Access: Access{MaxRetries: 10}} }

// Outputs returns an AMIOutputs.
func (a *AMI) Outputs() any { return AMIOutputs{} }

// Check says what is wrong with settings, in Packer's words.
func (a *AMI) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	var s AMISettings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return []bakehouse.Finding{{Message: err.Error()}}
		}
	}
	c := &check{s: &Settings{Access: s.Access}, unknown: unknown, files: files}
	c.access()
	c.fail(len(s.Owners) == 0 && len(s.Filters) == 0, "filters owners", "The `filters` must be specified")
	c.fail(len(s.Owners) == 0, "owners", "For security reasons, you must declare an owner.")
	c.notYet()
	return c.found
}

// Read finds the image. None, or several without most_recent, is an error.
func (a *AMI) Read(ctx context.Context, settings json.RawMessage, _ bakehouse.Files) (json.RawMessage, error) {
	s := a.Settings().(*AMISettings)
	if err := json.Unmarshal(settings, s); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "read settings of amazon-ami: %w", err)
	}
	c, err := a.connections.to(ctx, s.Access, "")
	if err != nil {
		return nil, err
	}
	img, err := c.selectImage(ctx, "", &s.SourceAMIFilter)
	if err != nil {
		return nil, err
	}
	out := AMIOutputs{
		ID: aws.ToString(img.ImageId), Name: aws.ToString(img.Name), CreationDate: aws.ToString(img.CreationDate),
		Owner: aws.ToString(img.OwnerId), OwnerName: aws.ToString(img.ImageOwnerAlias), Tags: map[string]string{},
	}
	for _, t := range img.Tags {
		out.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return json.Marshal(out)
}
