{{- /* At most 54 characters: the names made from it end in up to 9 more, and a Service has 63. */ -}}
{{- define "gbo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gbo.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "gbo.fullname" .) -}}
{{- end -}}

{{- define "gbo.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gbo.labels" -}}
{{ include "gbo.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "gbo.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The watched namespaces as a JSON list: read it with fromJsonArray. */ -}}
{{- define "gbo.watchNamespaces" -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | toJson -}}
{{- end -}}

{{- /* "true" if every namespace is watched. */ -}}
{{- define "gbo.watchesCluster" -}}
{{- has "*" .Values.watchNamespaces -}}
{{- end -}}

{{- /* Name of what belongs to the release and to no namespace. */ -}}
{{- define "gbo.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "gbo.fullname" .) -}}
{{- end -}}

{{- /* One egress or ingress rule. Arguments: ports, protocols, peers, and the key of the peers (to or from). */ -}}
{{- define "gbo.networkRule" -}}
- ports:
    {{- range $port := .ports }}
    {{- range $protocol := $.protocols }}
    - {port: {{ $port }}, protocol: {{ $protocol }}}
    {{- end }}
    {{- end }}
  {{- with .peers }}
  {{ $.key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* What both the operator and its Jobs open: names, ZooKeeper, the members' backup port. */ -}}
{{- define "gbo.databaseEgress" -}}
{{- with .Values.networkPolicy -}}
{{ include "gbo.networkRule" (dict "ports" .dns.ports "protocols" (list "UDP" "TCP") "key" "to" "peers" .dns.to) }}
{{ include "gbo.networkRule" (dict "ports" .zooKeeper.ports "protocols" (list "TCP") "key" "to" "peers" .zooKeeper.to) }}
{{ include "gbo.networkRule" (dict "ports" .backup.ports "protocols" (list "TCP") "key" "to" "peers" .backup.to) }}
{{- end -}}
{{- end -}}
