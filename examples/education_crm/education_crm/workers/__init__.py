"""The CRM's slow work: what its queues run."""

from education_crm.workers.csv_import_worker import CsvImportWorker
from education_crm.workers.recording_processor_worker import RecordingProcessorWorker

__all__ = ["CsvImportWorker", "RecordingProcessorWorker"]
