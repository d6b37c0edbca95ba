{{- /* What a Restore does in a watched namespace, besides what a backup does. */ -}}
{{- define "gbo.restoreRules" -}}
# The claims of the members are exchanged; each deletion names the claim's UID. `patch`: an annotation, so that the volume
# controller looks at a claim at once.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [create, delete, patch]
# Is the member ready, and does it run on the volume that it should have? `delete`: a member that is not ready blocks its
# StatefulSet; each deletion names the pod's UID.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, delete]
{{- end -}}
