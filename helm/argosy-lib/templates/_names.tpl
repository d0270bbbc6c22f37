{{/* Every template gets the context of argosy-lib.service: root, name, and the facts of the service. */}}
{{- define "argosy-lib.fullname" -}}{{ .root.Release.Name }}-{{ .name }}{{- end }}

{{- define "argosy-lib.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "argosy-lib.labels" -}}
{{ include "argosy-lib.selector" . }}
app.kubernetes.io/part-of: argosy
app.kubernetes.io/version: {{ include "argosy-lib.tag" . | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "argosy-lib.tag" -}}{{ .root.Values.global.image.tag | default .root.Chart.AppVersion }}{{- end }}

{{- define "argosy-lib.image" -}}
{{ .root.Values.global.image.prefix }}/{{ .name }}:{{ include "argosy-lib.tag" . }}
{{- end }}

{{- define "argosy-lib.prefix" -}}{{ .name | upper | replace "-" "_" }}{{- end }}

{{/* Whether the number of replicas belongs to an autoscaler. */}}
{{- define "argosy-lib.scaled" -}}
{{- if and (ne .root.Values.global.autoscaling.mode "none") .scaling.enabled }}true{{ end }}
{{- end }}
