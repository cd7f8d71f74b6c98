package export

import "testing"

func TestAsked(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    bool
	}{
		{"nothing", []string{"PATH=/bin", "OTEL_SERVICE_NAME=x"}, false},
		{"endpoint", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"}, true},
		{"endpoint of traces", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector:4318/v1/traces"}, true},
		{"exporter", []string{"OTEL_TRACES_EXPORTER=console"}, true},
		{"empty", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_TRACES_EXPORTER="}, false},
		{"no traces", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_TRACES_EXPORTER=none"}, false},
		{"disabled", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_SDK_DISABLED=TRUE"}, false},
		{"not disabled", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_SDK_DISABLED=false"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Asked(tt.environ); got != tt.want {
				t.Errorf("Asked(%v) = %v", tt.environ, got)
			}
		})
	}
}
