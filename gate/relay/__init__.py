"""The relay: hears from MLflow that a version was registered, and has it checked, once.

A *delivery* is one request of an MLflow webhook. A delivery that is signed, fresh and about a new version of a model
becomes a row of the *queue*, a file, and is answered with 202 when the row is on the disk. A worker takes the rows and
hands each to the *target*: a workflow on GitHub, or `gate check` on this machine. MLflow loses deliveries, so a
*reconciler* also lists the registry and queues what nobody told of: every version without a row and without a tag
`gate`, on the very first start as well.

The law: a version gets to its target **once**, whatever comes twice, late, out of order or not at all, and whatever is
restarted. A version is its name, its number and, as soon as the registry was asked, the time of its creation.

The one exception is a relay that ends while the target is at work:

- A version that was being dispatched is dispatched again: nobody knows whether GitHub had heard the first time.
- A check that was broken off runs again, unless the version has by now a verdict that is not ERROR, from a run
  (`gate.run`) that it did not carry when it was queued. ERROR also stands there while a check is being recorded.

What failed for want of the network is tried a bounded number of times, then it is `failed`, and seen in /health, in
/metrics and in the log; it is taken up again when the relay is started again.
"""
