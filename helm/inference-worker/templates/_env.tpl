{{- define "inference-worker.env" -}}
{{- range $name, $upstream := .Values.upstreams }}
{{- $prefix := printf "INFERENCE_WORKER_UPSTREAMS__%s__" (upper $name) }}
- { name: {{ $prefix }}KIND, value: {{ $upstream.kind }} }
{{- with $upstream.baseUrl }}
- { name: {{ $prefix }}BASE_URL, value: {{ . | quote }} }
{{- end }}
{{- with $upstream.path }}
- { name: {{ $prefix }}PATH, value: {{ . | quote }} }
{{- end }}
{{- with $upstream.tokenizer }}
- { name: {{ $prefix }}TOKENIZER, value: {{ . | quote }} }
{{- end }}
{{- with $upstream.apiKeyKey }}
{{ include "argosy-lib.secretEnv" (dict "root" $ "variable" (printf "%sAPI_KEY" $prefix) "key" .) }}
{{- end }}
{{- range $setting, $value := $upstream.settings }}
- { name: {{ $prefix }}{{ $setting }}, value: {{ include "argosy-lib.text" $value }} }
{{- end }}
{{- end }}
{{- end }}
