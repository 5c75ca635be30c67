"""Education CRM: a small, complete application whose slow work runs in Staffa's queues."""
