"""Every exception of Staffa.

StaffaError
├── ConfigError             the configuration is wrong, or something is missing from it
│   ├── InvalidCron         an entry of the crontab is wrong (also a ValueError)
│   ├── UnknownQueue        no node has this queue, and no job (also a LookupError)
│   └── UnknownNode         nothing runs on a node of this name (also a LookupError)
├── GeneratorError          new files cannot be written as asked
├── FilesNotWritten         the system did not let new files be written; nothing was
├── VerificationFailed      new files are written, but a tool of the project is not content with them
├── JobError                a job cannot be stored
│   ├── InvalidJob          an option of the job is out of range (also a ValueError)
│   └── InvalidArguments    its arguments cannot be kept faithfully as JSON (also a TypeError)
├── InvalidFilter           a filter asks for what no job can be (also a ValueError)
├── WorkerError             a worker cannot be used
│   ├── InvalidWorker       it is declared wrongly (also a TypeError)
│   └── UnknownWorker       nobody registered this name (also a LookupError)
├── InstanceError           no instance, or not this one, can take the call
│   ├── NoInstance          there is none, or several without a default
│   └── InsideEventLoop     a blocking call was made on a thread that runs an event loop
├── DatabaseError           the database did not do what was asked
│   ├── DatabaseUnavailable it cannot be reached now; trying again later may help
│   ├── DatabaseBusy        another transaction holds a lock for too long (is DatabaseUnavailable)
│   ├── UnstorableData      it refused a value
│   ├── SchemaMissing       its tables are missing or too old
│   ├── SchemaUnsupported   there are tables that cannot be adopted
│   └── UnsupportedConnection  a caller's connection cannot be joined
├── ResultError             the result of a job cannot be had
│   ├── ResultTimeout       it did not finish in time (also a TimeoutError)
│   ├── ResultGone          there is no such job, or no longer (also a LookupError)
│   ├── ResultFailed        it was discarded or cancelled, so it has no value
│   └── InvalidResult       what it returned cannot be recorded (also a TypeError)
├── JobTimeout              an attempt took longer than its worker allows (also a TimeoutError)
├── ProcessDied             the process that ran a job ended before the job did
└── JobFailed               a worker answered `Error(reason)`
"""


class StaffaError(Exception):
    """The root of everything that Staffa raises on purpose."""


class ConfigError(StaffaError):
    """The configuration is wrong; the message names the key and where it was read."""


class InvalidCron(ConfigError, ValueError):
    """An entry of the crontab is wrong; the message says what, and names the entry where it is known."""


class UnknownQueue(ConfigError, LookupError):
    """No configuration, no node and no job has this queue; the message names the nearest one that there is."""


class UnknownNode(ConfigError, LookupError):
    """Nothing has run on a node of this name lately; the message names the nearest one that there is."""


class GeneratorError(StaffaError):
    """New files cannot be written as asked; the message says why, and nothing was written."""


class FilesNotWritten(StaffaError):
    """The system did not let new files be written; the message says which and why, and nothing was written."""


class VerificationFailed(StaffaError):
    """New files are written, but a tool of the project is not content with them, or is not there."""


class JobError(StaffaError):
    """A job cannot be stored; nothing was written."""


class InvalidJob(JobError, ValueError):
    """An option of a job is out of range; the message names it."""


class InvalidArguments(JobError, TypeError):
    """Arguments cannot be kept as JSON, or do not fit the declared type; the message names the key."""


class InvalidFilter(StaffaError, ValueError):
    """A filter asks for what no job can be, or for every job by mistake; the message names the field."""


class WorkerError(StaffaError):
    """A worker cannot be used."""


class InvalidWorker(WorkerError, TypeError):
    """A worker is declared wrongly."""


class UnknownWorker(WorkerError, LookupError):
    """No registered worker has this name."""


class InstanceError(StaffaError, RuntimeError):
    """No instance can take the call."""


class NoInstance(InstanceError):
    """There is no instance to use, or there are several and none is the default."""


class InsideEventLoop(InstanceError):
    """A blocking call was made on a thread that runs an event loop; the message names its awaited twin."""


class DatabaseError(StaffaError):
    """The database did not do what was asked."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached now, or gave up on us; the same call may work later."""


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else's transaction holds SQLite's write lock, or the key of a unique job, for too long."""


class UnstorableData(DatabaseError):
    """The database refused a value."""


class SchemaMissing(DatabaseError):
    """Staffa's tables are missing or too old; `staffa migrate` makes them."""


class SchemaUnsupported(DatabaseError):
    """There are tables of Oban's names that cannot be adopted as they are; the message says why, and what to do."""


class UnsupportedConnection(DatabaseError, TypeError):
    """A job cannot be enqueued through this connection; the message says why."""


class ResultError(StaffaError):
    """The result of a job cannot be had."""


class ResultTimeout(ResultError, TimeoutError):
    """A job did not finish within the time that its result was waited for; it goes on."""


class ResultGone(ResultError, LookupError):
    """There is no such job: it was never stored, or it was deleted or pruned."""


class ResultFailed(ResultError):
    """A job was discarded or cancelled, so it has no value; the message says why."""


class InvalidResult(ResultError, TypeError):
    """What a worker returned cannot be recorded; the message names what and why."""


class JobTimeout(StaffaError, TimeoutError):
    """An attempt took longer than its worker's `timeout`."""


class ProcessDied(StaffaError):
    """The process that ran a job ended before the job did; the message says how."""


class JobFailed(StaffaError):
    """A worker answered `Error(reason)`; raised only where the caller runs the job itself."""
