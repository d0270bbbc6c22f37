"""The queues as KEDA's external scaler reads them, to scale the workers of a pool."""
