"""An ordinary task."""

import time

from celery import shared_task


@shared_task(bind=True, name="reports.yearly")
def yearly(self, year):
    """Add up a year, slowly."""
    total = 0
    for month in self.track(range(1, 13)):
        time.sleep(0.2)
        total += year * month
    return {"year": year, "total": total}
