{{- define "inference-worker.pool" }}
---
{{ include "argosy-lib.deployment" (merge (dict "poolEnv" (include "inference-worker.poolEnv" .)) .) }}
---
{{ include "argosy-lib.disruptionBudget" . }}
{{- if include "argosy-lib.scaled" . }}
---
{{ include "argosy-lib.queueAutoscaler" . }}
{{- end }}
{{- end }}

{{- define "inference-worker.poolEnv" -}}
- { name: INFERENCE_WORKER_JOBS__POOL, value: {{ .pool | quote }} }
- { name: INFERENCE_WORKER_JOBS__SLOTS, value: {{ .slots | quote }} }
{{- end }}
