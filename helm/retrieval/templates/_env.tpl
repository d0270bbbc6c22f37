{{- define "retrieval.env" -}}
- { name: RETRIEVAL_OBJECTS__URL, value: {{ required "retrieval.objectsUrl: name the bucket, such as s3://bucket/prefix" .Values.objectsUrl | quote }} }
{{- if and (hasPrefix "file:" .Values.objectsUrl) (or (gt (int .Values.replicas) 1) (include "argosy-lib.scaled" (dict "root" . "scaling" .Values.autoscaling))) }}
{{- fail "retrieval.objectsUrl is a folder, which replicas do not share: set retrieval.replicas to 1 and retrieval.autoscaling.enabled to false, or name a bucket" }}
{{- end }}
{{- with .Values.tokenizer }}
- { name: RETRIEVAL_EMBEDDING__TOKENIZER, value: {{ . | quote }} }
{{- end }}
{{- end }}
