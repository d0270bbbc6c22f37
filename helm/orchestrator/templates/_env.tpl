{{- define "orchestrator.env" -}}
- { name: ORCHESTRATOR_QUEUES__SCALER_BIND, value: "0.0.0.0:9010" }
{{- with .Values.global.runtimePools }}
{{- if .enabled }}
- { name: ORCHESTRATOR_POOLS__TEMPLATE, value: {{ $.Release.Name }}-pool-template }
- { name: ORCHESTRATOR_POOLS__MAX_POOLS, value: {{ include "argosy-lib.text" .maxPools }} }
- { name: ORCHESTRATOR_POOLS__MAX_REPLICAS, value: {{ include "argosy-lib.text" .maxReplicas }} }
{{- end }}
{{- end }}
{{- if .Values.webhooks }}
{{ include "argosy-lib.secretEnv" (dict "root" . "variable" "ORCHESTRATOR_WEBHOOKS__SECRET_KEYS" "key" "webhook-secret-keys") }}
{{- end }}
{{- range $plan, $settings := .Values.plans }}
{{- $prefix := printf "ORCHESTRATOR_JOBS__PLANS__%s" (upper $plan) }}
{{- with $settings.lane }}
- { name: {{ $prefix }}__LANE, value: {{ . }} }
{{- end }}
{{- with $settings.pool }}
{{- if not (or (eq . "default") (hasKey $.Values.global.pools .)) }}
{{- fail (printf "orchestrator.plans.%s.pool: there is no pool %s in global.pools" $plan .) }}
{{- end }}
- { name: {{ $prefix }}__POOL, value: {{ . }} }
{{- end }}
{{- with $settings.maxQueued }}
- { name: {{ $prefix }}__MAX_QUEUED, value: {{ include "argosy-lib.text" . }} }
{{- end }}
{{- end }}
{{- end }}
